"""Every difference that the allow-list does not name, in one check per kind of fact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from certify.nodes.parity import Difference


@pytest.mark.parametrize("kind", ["os", "packages", "config_files", "users", "units", "sockets", "sysctls"])
def test_same_on_every_platform(
    kind: str, parity: Callable[[list[str]], list[Difference]], settings: dict[str, Any]
) -> None:
    """A difference between test and production is where tests stop being true."""
    found = [d for d in parity(settings["allowed"]) if d.kind == kind and not d.allowed]
    assert [str(difference) for difference in found] == []
