"""The serial console: the only thing an operator sees of a machine that does not come up."""

from __future__ import annotations

from certify.nodes.node import Node


def test_console_is_on_serial(node: Node) -> None:
    """Clouds and BMCs show the serial line, not the screen."""
    consoles = [line.split()[0] for line in node.run("cat /proc/consoles").lines]
    assert any(name.startswith(("ttyS", "ttyAMA", "hvc")) for name in consoles), consoles
    assert b"Linux version " in node.console()
