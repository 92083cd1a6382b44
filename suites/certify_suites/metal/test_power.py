"""Power and events."""

from __future__ import annotations

import re
from typing import Any

import pytest

from certify.nodes.node import Node


@pytest.mark.needs("reboot")
def test_comes_back_after_a_power_cut(node: Node) -> None:
    """Another boot of the same system from the same disk, with its file systems sound."""
    before = node.boot_id
    node.run("echo kept >/var/lib/certify-kept && sync")
    node.power_cycle()
    assert node.boot_id != before
    assert node.run("cat /var/lib/certify-kept; rm /var/lib/certify-kept").text == "kept"
    assert node.run("cat /sys/fs/ext4/*/errors_count 2>/dev/null").text.replace("0", "").strip() == ""


def test_no_critical_event(node: Node, settings: dict[str, Any]) -> None:
    """What the BMC logged since the image came: a fan, a power supply, a memory module."""
    events = node.how.details["events"]
    if events is None:
        pytest.skip("the BMC has no event log")
    allowed = [re.compile(pattern) for pattern in settings["events_allowed"]]
    assert [event for event in events if not any(pattern.search(event) for pattern in allowed)] == []
