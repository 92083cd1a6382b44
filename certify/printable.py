"""Foreign text, made fit for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` with a ``?`` for every control character but a newline."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
