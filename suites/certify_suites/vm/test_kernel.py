"""The kernel: untainted, protected, and content."""

from __future__ import annotations

import re
from typing import Any

from certify.nodes.node import Node


def test_kernel_is_not_tainted(node: Node, settings: dict[str, Any]) -> None:
    """A taint (kernel.org, tainted-kernels) means a crash, a forced module or something out of tree."""
    assert int(node.run("cat /proc/sys/kernel/tainted").text) & ~int(settings["taint_allowed"]) == 0


def test_no_oops_in_the_kernel_log(node: Node) -> None:
    """After an oops a kernel goes on with whatever locks the dead task held."""
    log = node.run("dmesg 2>/dev/null || journalctl -k -b --no-pager -o cat").lines
    assert [line for line in log if re.search(r"\bOops\b|kernel BUG at|BUG: unable|Call Trace:", line)] == []


def test_mitigations_are_on(node: Node, settings: dict[str, Any]) -> None:
    """Protections switched off for a benchmark stay off for years."""
    words = node.run("cat /proc/cmdline").text.split()
    assert [word for word in words if word in settings["unsafe_cmdline"]] == []
