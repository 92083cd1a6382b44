"""Things that must be different on every machine, and so must not be in an image."""

from __future__ import annotations

import pytest

from certify_suites.scan import Scan


def _own(scanned: Scan, *paths: str) -> list[str]:
    """Those of the paths that came with the image, are no links and hold something."""
    found = {file.path for file in scanned.files if file.from_image and not file.is_link and file.size > 0}
    return [path for path in paths if path in found]


def test_machine_id_is_unset(scanned: Scan) -> None:
    """Machines that share a machine-id share DHCP leases, journals and anything keyed by it (machine-id(5))."""
    if _own(scanned, "/etc/machine-id"):
        assert scanned.read("/etc/machine-id").strip() in (b"", b"uninitialized")


def test_dbus_machine_id_is_unset(scanned: Scan) -> None:
    """D-Bus keeps a copy of its own, which is forgotten more often."""
    assert _own(scanned, "/var/lib/dbus/machine-id") == []


@pytest.mark.control("CIS-DEB12-5.1.2")
def test_no_ssh_host_keys(scanned: Scan) -> None:
    """With the image's host key anyone who has the image can impersonate every machine made from it."""
    assert scanned.named("/etc/ssh/ssh_host_*_key", "/etc/dropbear/*_host_key") == []


def test_no_random_seed(scanned: Scan) -> None:
    """Machines that start from the same seed may draw the same keys."""
    assert (
        _own(scanned, "/var/lib/systemd/random-seed", "/var/lib/urandom/random-seed", "/boot/efi/loader/random-seed")
        == []
    )


def test_no_instance_state(scanned: Scan) -> None:
    """State of cloud-init, DHCP or a lease from the build machine makes the first boot look like a second."""
    patterns = (
        "/var/lib/cloud/instance*/*",
        "/var/lib/dhcp/*.leases",
        "/var/lib/dhclient/*.leases",
        "/var/lib/NetworkManager/*.lease",
    )
    assert scanned.named(*patterns) == []
