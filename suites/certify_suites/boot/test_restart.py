"""The second boot: what the first one wrote must not break it."""

from __future__ import annotations

from typing import Any

import pytest

from certify.nodes.node import Node
from certify_suites.scan import unlisted


@pytest.mark.destructive
@pytest.mark.needs("systemd", "reboot")
def test_comes_back_whole_after_a_restart(node: Node, settings: dict[str, Any]) -> None:
    """An image that only boots once is found out at the first power cut."""
    node.reboot()
    failed = node.run("systemctl list-units --failed --plain --no-legend --full").lines
    assert unlisted((line.split()[0] for line in failed), settings["failed_units_allowed"]) == []
    assert node.run(f"systemctl is-active {settings['target']}").text == "active"
