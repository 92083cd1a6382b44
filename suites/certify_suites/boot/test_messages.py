"""What the boot said."""

from __future__ import annotations

import re
from typing import Any

import pytest

from certify.nodes.console import faults
from certify.nodes.node import Node


@pytest.mark.needs("systemd")
def test_no_error_in_the_journal(node: Node, settings: dict[str, Any]) -> None:
    """An error that is logged at every boot trains people not to read errors."""
    lines = node.run("journalctl -b -p err -o cat --no-pager").lines
    allowed = [re.compile(pattern) for pattern in settings["journal_errors_allowed"]]
    assert [line for line in lines if not any(pattern.search(line) for pattern in allowed)] == []


@pytest.mark.needs("systemd")
def test_journal_is_readable(node: Node) -> None:
    """Without a journal nobody will ever know why."""
    assert node.run("journalctl -b -n 1 -o cat --no-pager").lines != []


def test_console_is_clean(node: Node, settings: dict[str, Any]) -> None:
    """Oopses, failed mounts and hanging tasks are said once, at boot, and scroll away."""
    found = faults(node.console(), settings["console_allowed"])
    assert [f"{fault.means}: {fault.line}" for fault in found] == []


def test_no_zombies(node: Node) -> None:
    """Zombies at boot are a process that does not wait for its children; their number only grows."""
    states = node.run("cat /proc/[0-9]*/stat 2>/dev/null").lines
    assert [line for line in states if line.rpartition(")")[2].split()[:1] == ["Z"]] == []
