"""The framing of the shell: how one command's output is cut out of two endless streams.

For each command the shell is told to print, around the command's own output::

    stdout:  B<marker>\\n  …output…  E<marker> <status>\\n
    stderr:  B<marker>\\n  …output…  E<marker> 0\\n

The marker is 128 random bits per command, so output can contain anything, other markers included: what is not this
marker is data, and what comes before ``B<marker>`` (late output of an earlier command's background process) is dropped.
Nothing here does I/O; :mod:`certify.nodes.shell` feeds it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

_STATUS_MAX = 8


def wrap(command: str, marker: str) -> bytes:
    """The line that makes a POSIX shell run ``command`` in a subshell and frame its output with ``marker``."""
    return framed(f"( eval {shlex.quote(command)} ) </dev/null", marker)


def framed(script: str, marker: str) -> bytes:
    """The line that makes a shell run ``script`` in itself, framed with ``marker``: for our own questions only."""
    lines = f'echo B{marker}; echo B{marker} >&2; {script}; echo "E{marker} $?"; echo "E{marker} 0" >&2\n'
    return lines.encode("utf-8", "surrogateescape")


class Frame:
    """One stream's frame for one command. Feed it bytes until :attr:`status` is set."""

    def __init__(self, marker: str, limit: int) -> None:
        self._begin = f"B{marker}\n".encode()
        self._end = f"E{marker} ".encode()
        self._limit = limit
        self._buffer = bytearray()
        self._begun = False
        self._searched = 0
        self.status: int | None = None

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return those after the frame's end (empty until then). Raises ValueError on a broken frame."""
        self._buffer += data
        if not self._begun and not self._find_begin():
            return b""
        end = self._buffer.find(self._end, max(0, self._searched - len(self._end)))
        if end < 0:
            self._searched = len(self._buffer)
            return b""
        newline = self._buffer.find(b"\n", end)
        if newline < 0:
            if len(self._buffer) - end > len(self._end) + _STATUS_MAX:
                raise ValueError("the end of a frame without a status")
            return b""
        self.status = int(self._buffer[end + len(self._end) : newline])
        rest = bytes(self._buffer[newline + 1 :])
        del self._buffer[end:]
        return rest

    @property
    def output(self) -> bytes:
        """The command's bytes so far, exactly as printed."""
        return bytes(self._buffer) if self._begun else b""

    @property
    def overflowing(self) -> bool:
        """Whether more than the limit has been printed."""
        return self._begun and len(self._buffer) > self._limit + len(self._end) + _STATUS_MAX

    def _find_begin(self) -> bool:
        at = self._buffer.find(self._begin)
        if at >= 0:
            del self._buffer[: at + len(self._begin)]
            self._begun = True
        elif len(self._buffer) > len(self._begin):
            del self._buffer[: -len(self._begin)]
        return self._begun


@dataclass(frozen=True)
class FramePair:
    """Both streams of one command."""

    stdout: Frame
    stderr: Frame

    @classmethod
    def of(cls, marker: str, limit: int) -> FramePair:
        """A fresh pair for one command."""
        return cls(Frame(marker, limit), Frame(marker, limit))

    @property
    def done(self) -> bool:
        """Whether both frames have ended."""
        return self.stdout.status is not None and self.stderr.status is not None

    @property
    def overflowing(self) -> bool:
        """Whether either stream is over its limit."""
        return self.stdout.overflowing or self.stderr.overflowing
