"""What a build leaves behind when nobody cleans up: it costs space, tells secrets, and differs from build to build."""

from __future__ import annotations

from typing import Any

import pytest

from certify.nodes.node import Node
from certify_suites.scan import Scan, unlisted

_BUILD_TOOLS = ("gcc", "cc", "g++", "make", "cmake", "ld", "cargo", "go", "javac", "git", "gdb", "strace")


def test_no_shell_history(scanned: Scan) -> None:
    """Histories hold the commands of the build, with the passwords typed into them."""
    names = (
        ".bash_history",
        ".ash_history",
        ".zsh_history",
        ".sh_history",
        ".python_history",
        ".mysql_history",
        ".psql_history",
        ".lesshst",
        ".viminfo",
        ".wget-hsts",
    )
    assert scanned.named(*(f"{home}/{name}" for home in ("/root", "/home/*") for name in names)) == []


def test_no_package_caches(scanned: Scan) -> None:
    """Downloaded packages and lists are dead weight, and age."""
    patterns = (
        "/var/cache/apt/archives/*.deb",
        "/var/cache/apt/*.bin",
        "/var/lib/apt/lists/*_*",
        "/var/cache/dnf/*",
        "/var/cache/yum/*",
        "/var/cache/apk/*.tar.gz",
        "/root/.cache/pip/*",
        "/root/.npm/_cacache/*",
    )
    assert scanned.named(*patterns) == []


def test_no_logs(settings: dict[str, Any], scanned: Scan) -> None:
    """Logs of the build machine mislead whoever reads them on the real one."""
    logs = [file.path for file in scanned.below("/var/log") if file.is_regular and file.size > 0]
    assert unlisted(logs, settings["logs_allowed"]) == []


def test_no_temporary_files(scanned: Scan) -> None:
    """Files in /tmp of an image are somebody's forgotten work."""
    assert [file.path for file in scanned.below("/tmp", "/var/tmp") if file.is_regular] == []


def test_no_core_dumps(scanned: Scan) -> None:
    """A core dump holds a process's memory, secrets included."""
    patterns = (
        "/core",
        "/core.[0-9]*",
        "/root/core",
        "/root/core.[0-9]*",
        "/var/lib/systemd/coredump/*",
        "/var/crash/*",
        "/tmp/core*",
    )
    assert scanned.named(*patterns) == []


def test_no_backup_copies_in_etc(scanned: Scan) -> None:
    """Backup copies in configuration directories are read by some programs, and always confuse."""
    suffixes = (
        "~",
        ".bak",
        ".orig",
        ".old",
        ".swp",
        ".rej",
        ".dpkg-old",
        ".dpkg-dist",
        ".dpkg-new",
        ".ucf-old",
        ".rpmsave",
        ".rpmnew",
    )
    assert scanned.named(*(f"/etc/*{suffix}" for suffix in suffixes)) == []


def test_no_source_control(scanned: Scan) -> None:
    """A .git directory holds every secret that was ever committed and removed."""
    assert [
        path for path in scanned.named("*/.git/HEAD", "*/.hg/store", "*/.svn/wc.db") if not path.startswith("/proc")
    ] == []


@pytest.mark.control("CIS-DOCKER-4.3")
def test_no_build_tools(node: Node, settings: dict[str, Any]) -> None:
    """A compiler on a server builds the intruder's tools."""
    tools = [tool for tool in _BUILD_TOOLS if tool not in settings["build_tools_allowed"]]
    found = node.run_many([f"command -v {tool}" for tool in tools])
    assert [tool for tool, answer in zip(tools, found, strict=True) if answer.ok] == []


def test_no_build_proxy(scanned: Scan) -> None:
    """The build network's proxy does not exist where the image runs."""
    pattern = r"(?i)^[^#/\n]*(acquire::https?::proxy|https?_proxy=)"
    assert scanned.containing(pattern, ["/etc/apt", "/etc/environment", "/etc/profile.d"]) == []


def test_no_mail(scanned: Scan) -> None:
    """Mail to root in an image is an error message that nobody read."""
    assert [f.path for f in scanned.below("/var/mail", "/var/spool/mail") if f.is_regular and f.size > 0] == []
