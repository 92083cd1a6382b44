"""Reboots and power cuts."""

from __future__ import annotations

import pytest

from certify.nodes.node import Node

_STATE = "systemctl is-system-running --wait"


def _fine(node: Node) -> None:
    assert node.run(_STATE).text in ("running", "degraded")
    assert node.run("cat /sys/fs/ext4/*/errors_count 2>/dev/null").text.replace("0", "").strip() == ""
    assert node.run("touch /var/tmp/certify-writable && rm /var/tmp/certify-writable").ok


@pytest.mark.destructive
@pytest.mark.needs("reboot")
def test_survives_a_reboot(node: Node) -> None:
    """Orderly down, and up again as another boot of the same system."""
    before = node.boot_id
    node.reboot()
    assert node.boot_id != before
    _fine(node)


@pytest.mark.destructive
@pytest.mark.needs("reboot")
def test_survives_a_power_cut(node: Node) -> None:
    """What was synced is there, and the filesystem comes back without a person."""
    before = node.boot_id
    node.run(
        "echo kept >/var/lib/certify-kept && sync; dd if=/dev/zero of=/var/lib/certify-lost bs=64k count=64 2>/dev/null"
    )
    node.power_cycle()
    assert node.boot_id != before
    assert node.run("cat /var/lib/certify-kept").text == "kept"
    _fine(node)
