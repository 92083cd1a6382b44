"""Permissions and owners of every file in the image."""

from __future__ import annotations

from typing import Any

import pytest

from certify.nodes.node import Node
from certify_suites.scan import Scan, answered, unlisted


@pytest.mark.control("CIS-DEB12-7.1.13", "devsec-os-06", "CIS-DOCKER-4.8")
def test_no_unexpected_setuid(settings: dict[str, Any], scanned: Scan) -> None:
    """Every setuid program is a way to root if it has a bug; each needs a reason."""
    found = [file.path for file in scanned.files if file.is_regular and file.mode & 0o4000]
    assert unlisted(found, settings["setuid_allowed"]) == []


@pytest.mark.control("CIS-DEB12-7.1.13")
def test_no_unexpected_setgid(settings: dict[str, Any], scanned: Scan) -> None:
    """Setgid programs lend their group's rights to everyone."""
    found = [f.path for f in scanned.files if f.mode & 0o2000 and (f.is_regular or f.is_directory) and f.from_image]
    assert unlisted(found, settings["setgid_allowed"]) == []


@pytest.mark.control("CIS-DEB12-7.1.11")
def test_no_world_writable_files(settings: dict[str, Any], scanned: Scan) -> None:
    """Anyone can change a file that everyone can write."""
    found = [file.path for file in scanned.files if file.is_regular and file.mode & 0o0002]
    assert unlisted(found, settings["world_writable_allowed"]) == []


@pytest.mark.control("CIS-DEB12-7.1.11")
def test_world_writable_directories_are_sticky(settings: dict[str, Any], scanned: Scan) -> None:
    """Without the sticky bit anyone can replace anyone's files there."""
    found = [f.path for f in scanned.files if f.is_directory and f.mode & 0o0002 and not f.mode & 0o1000]
    assert unlisted(found, settings["world_writable_allowed"]) == []


@pytest.mark.control("CIS-DEB12-7.1.12")
def test_no_unowned_files(node: Node, settings: dict[str, Any], scanned: Scan) -> None:
    """A file of a uid that no user has belongs to whoever gets that uid next."""
    users = {user.uid for user in node.facts.users.values()} or {0}
    groups = {int(line.split(":")[2]) for line in node.run("cat /etc/group").lines if line.count(":") >= 3} or {0}
    found = [file.path for file in scanned.files if file.uid not in users or file.gid not in groups]
    assert unlisted(found, settings["unowned_allowed"]) == []


def test_no_unexpected_capabilities(node: Node, settings: dict[str, Any], scanned: Scan) -> None:
    """File capabilities are setuid by another name, and easier to overlook."""
    if all(file.capabilities is not None for file in scanned.files if file.from_image):
        found = [file.path for file in scanned.files if file.capabilities]
        assert unlisted(found, settings["capabilities_allowed"]) == []
        return
    if not node.run("command -v getcap").ok:
        pytest.skip("its files' capabilities cannot be read here, and it has no getcap")
    found = [line.split(" ")[0] for line in answered(node.run("LC_ALL=C getcap -r /", timeout=120)).lines]
    assert unlisted(found, settings["capabilities_allowed"]) == []


def test_no_device_files(scanned: Scan) -> None:
    """A device file outside /dev gives raw access to whoever may open it."""
    assert [file.path for file in scanned.files if file.is_device and not file.path.startswith("/dev/")] == []


def test_configuration_belongs_to_root(scanned: Scan) -> None:
    """Who can write a service's configuration decides what the service does."""
    bad = [f for f in scanned.below("/etc") if not f.is_link and (f.mode & 0o022 or f.uid != 0)]
    assert sorted(f.path for f in bad) == []


def test_programs_belong_to_root(scanned: Scan) -> None:
    """A program that its user can replace is that user's program."""
    places = (
        "/usr/bin",
        "/usr/sbin",
        "/usr/local/bin",
        "/usr/local/sbin",
        "/bin",
        "/sbin",
        "/usr/lib/systemd",
        "/lib/systemd",
    )
    bad = [f for f in scanned.below(*places) if not f.is_link and (f.uid != 0 or f.mode & 0o022)]
    assert sorted(f.path for f in bad) == []


def test_names_are_printable(scanned: Scan) -> None:
    """A name with a newline or control character hides files from scripts and people."""
    listed = scanned
    assert list(listed.odd) == []
    assert [f.path for f in listed.files if any(ord(c) < 32 or ord(c) == 127 for c in f.path)] == []
