"""Things that must be different on every machine, and so must not be in an image."""

from __future__ import annotations

import pytest

from certify.nodes.node import Node
from certify_suites.scan import scan


def _own(node: Node, *paths: str) -> list[str]:
    """Those of the paths that came with the image and hold something."""
    found = {file.path: file for file in scan(node).files}
    return [path for path in paths if path in found and found[path].from_image and found[path].size > 0]


def test_machine_id_is_unset(node: Node) -> None:
    """Machines that share a machine-id share DHCP leases, journals and anything keyed by it (machine-id(5))."""
    if _own(node, "/etc/machine-id"):
        assert node.read("/etc/machine-id").strip() in (b"", b"uninitialized")


def test_dbus_machine_id_is_unset(node: Node) -> None:
    """D-Bus keeps a copy of its own, which is forgotten more often."""
    own = [path for path in _own(node, "/var/lib/dbus/machine-id") if not node.run_many([f"test -L {path}"])[0].ok]
    assert own == []


@pytest.mark.control("CIS-DEB12-5.1.2")
def test_no_ssh_host_keys(node: Node) -> None:
    """With the image's host key anyone who has the image can impersonate every machine made from it."""
    assert scan(node).named("/etc/ssh/ssh_host_*_key", "/etc/dropbear/*_host_key") == []


def test_no_random_seed(node: Node) -> None:
    """Machines that start from the same seed may draw the same keys."""
    assert (
        _own(node, "/var/lib/systemd/random-seed", "/var/lib/urandom/random-seed", "/boot/efi/loader/random-seed") == []
    )


def test_no_instance_state(node: Node) -> None:
    """State of cloud-init, DHCP or a lease from the build machine makes the first boot look like a second."""
    patterns = (
        "/var/lib/cloud/instance*/*",
        "/var/lib/dhcp/*.leases",
        "/var/lib/dhclient/*.leases",
        "/var/lib/NetworkManager/*.lease",
    )
    assert scan(node).named(*patterns) == []
