"""Name, time and language of the system; the few directories everything relies on."""

from __future__ import annotations

from typing import Any

from certify.nodes.node import Node


def test_os_release_names_the_system(system: Node) -> None:
    """Inventory and vulnerability scanners go by ID and VERSION_ID (os-release(5))."""
    release = system.facts.os_release
    assert release.get("ID")
    assert release.get("VERSION_ID") or release.get("BUILD_ID") or release.get("ID") in ("arch", "gentoo")


def test_time_zone(system: Node, settings: dict[str, Any]) -> None:
    """Logs of a fleet line up only when every member uses one zone."""
    assert system.run("date +%Z").text == settings["time_zone"]


def test_locale_is_utf8(system: Node) -> None:
    """A program started in a non-UTF-8 locale mangles the first name with an accent."""
    text = system.run("cat /etc/default/locale /etc/locale.conf 2>/dev/null").text
    assert "utf-8" in text.lower() or "utf8" in text.lower(), f"no UTF-8 locale is configured: {text!r}"


def test_tmp_is_sticky(system: Node) -> None:
    """Without the sticky bit, users delete each other's files."""
    modes = system.run("stat -c '%a %n' /tmp /var/tmp 2>/dev/null").lines
    assert [line for line in modes if not line.startswith("1777 ")] == []


def test_root_home_is_private(system: Node) -> None:
    """Root's files are nobody else's business."""
    mode = system.run("stat -c %a /root 2>/dev/null || echo 700").text
    assert int(mode, 8) & 0o027 == 0, f"/root has mode {mode}"


def test_null_device_works(system: Node) -> None:
    """A /dev/null that is a plain file fills the disk and leaks what was thrown away."""
    assert system.run("test -c /dev/null && echo x >/dev/null && test ! -s /dev/null").ok
