"""What the checks of this suite share."""

from __future__ import annotations

from typing import Any, cast

import pytest

from certify.nodes.node import Node


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every check here is about real hardware, or what stands for it."""
    for item in items:
        if item.path.parent.name == "metal" and item.path.parent.parent.name == "certify_suites":
            item.add_marker(pytest.mark.platform("metal"))


@pytest.fixture
def inventory(node: Node) -> dict[str, Any]:
    """What the installer saw of the machine before the image was there: disks, nics, idle controllers, memory, firmware, tpm."""
    return cast("dict[str, Any]", node.how.details["installer"]["installer"])
