"""The shell: one command interpreter kept open per node, so that a command costs a millisecond and not a process.

Rules: commands do not affect each other (each runs in a subshell, without standard input); output is byte-exact, its two
streams apart, bounded; a command over its time-out or output limit is killed with its process group and the shell is
opened anew; a channel that breaks while a command runs makes that command *no verdict*, and the next one reconnects.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from certify.errors import CommandTimeout, OutputLimit, ShellUnavailable
from certify.nodes.framing import Frame, FramePair, framed, wrap
from certify.nodes.platform import ShellChannel

_HELLO_TIMEOUT = 20.0
#: Commands sent ahead of their answers; bounded so that neither side's pipe fills while both are writing.
_AHEAD = 16
_AHEAD_BYTES = 2048


@dataclass(frozen=True)
class Result:
    """What one command did. ``duration`` in seconds, as seen from here."""

    command: str
    status: int
    stdout: bytes
    stderr: bytes
    duration: float

    @property
    def ok(self) -> bool:
        """Whether the exit status is 0."""
        return self.status == 0

    @property
    def text(self) -> str:
        """Standard output as UTF-8 text, wrong bytes replaced, without the last newline."""
        return self.stdout.decode("utf-8", "replace").removesuffix("\n")

    @property
    def lines(self) -> list[str]:
        """Standard output's lines that are not empty."""
        return [line for line in self.text.split("\n") if line.strip()]


class Shell:
    """A framed shell over channels that ``open_channel`` gives. Safe to use from several threads; commands queue."""

    def __init__(
        self, open_channel: Callable[[], ShellChannel], *, timeout: float = 60.0, limit: int = 16 * 1024**2
    ) -> None:
        self._open_channel = open_channel
        self._timeout = timeout
        self._limit = limit
        self._lock = threading.Lock()
        self._channel: ShellChannel | None = None
        self._group = ""
        self._rest = {1: b"", 2: b""}

    def run(self, command: str, timeout: float | None = None) -> Result:
        """Run one command and wait for it.

        Raises CommandTimeout and OutputLimit (the command was killed) and ShellUnavailable (nothing is known).
        """
        return self.run_many([command], timeout)[0]

    def run_many(self, commands: Sequence[str], timeout: float | None = None) -> list[Result]:
        """Run commands one after another, sending ahead: one round trip for all. ``timeout`` is per command."""
        allowed = self._timeout if timeout is None else timeout
        with self._lock:
            results: list[Result] = []
            pending: list[tuple[str, FramePair]] = []
            queue = list(reversed(commands))
            while queue or pending:
                while queue and (not pending or (len(pending) < _AHEAD and len(queue[-1]) < _AHEAD_BYTES)):
                    pending.append(self._send(queue.pop()))
                command, frames = pending.pop(0)
                results.append(self._collect(command, frames, allowed))
            return results

    def detach(self) -> ShellChannel | None:
        """Give the open, idle channel away, so that another shell can go on with it."""
        with self._lock:
            channel, self._channel = self._channel, None
            return channel

    def close(self) -> None:
        """Close the channel; the next command opens another."""
        with self._lock:
            self._drop()

    def _send(self, command: str) -> tuple[str, FramePair]:
        if "\0" in command:
            raise ValueError("a command cannot contain a NUL byte")
        marker = secrets.token_hex(16)
        line = wrap(command, marker)
        try:
            self._connected().send(line)
        except ShellUnavailable:  # the channel died while idle: nothing was running, so once more is safe
            self._drop()
            self._connected().send(line)
        return command, FramePair.of(marker, self._limit)

    def _collect(self, command: str, frames: FramePair, timeout: float) -> Result:
        started = time.monotonic()
        for stream, frame in ((1, frames.stdout), (2, frames.stderr)):
            self._feed(stream, frame, b"")
        try:
            while not frames.done:
                left = started + timeout - time.monotonic()
                piece = self._connected().receive(left) if left > 0 else None
                if piece is None:
                    self._kill()
                    raise CommandTimeout(
                        f"took longer than {timeout:g} s and was killed: {_shorten(command)}",
                        "give it more time (timeout=…, command_timeout in certify.yaml)",
                    )
                self._feed(piece[0], frames.stdout if piece[0] == 1 else frames.stderr, piece[1])
                if frames.overflowing or max(map(len, self._rest.values())) > self._limit:
                    self._kill()
                    raise OutputLimit(
                        f"printed more than {self._limit} bytes and was killed: {_shorten(command)}",
                        "print less, or raise output_limit in certify.yaml",
                    )
        except (ShellUnavailable, ValueError):
            self._drop()
            raise ShellUnavailable(
                f"the shell was lost while running: {_shorten(command)}",
                "the node or the way to it failed; see its console",
            ) from None
        status = frames.stdout.status or 0
        return Result(command, status, frames.stdout.output, frames.stderr.output, time.monotonic() - started)

    def _feed(self, stream: int, frame: Frame, data: bytes) -> None:
        """Give a frame its bytes; what lies behind its end waits for the next command's frame."""
        self._rest[stream] += data
        if frame.status is None and self._rest[stream]:
            data, self._rest[stream] = self._rest[stream], b""
            self._rest[stream] = frame.feed(data)

    def _connected(self) -> ShellChannel:
        if self._channel is None:
            self._channel = self._open_channel()
            self._rest = {1: b"", 2: b""}
            self._hello(self._channel)
        return self._channel

    def _hello(self, channel: ShellChannel) -> None:
        """Learn the shell's process group, which is what a time-out kills. Only shell built-ins are used."""
        answer = _ask(channel, 'read -r s </proc/self/stat && set -- ${s##*)} && echo "$$ $3" || echo "$$ 0"')
        if answer is None:
            self._drop()
            raise ShellUnavailable(f"no shell answered within {_HELLO_TIMEOUT:g} s", "see the node's console")
        pid, _, group = answer.decode("ascii", "replace").strip().partition(" ")
        self._group = "" if not pid.isdigit() else f"-{pid}" if group == pid else pid

    def _kill(self) -> None:
        """Kill the running command with its process group, from a fresh channel, and leave a closed shell."""
        group, self._group = self._group, ""
        self._drop()
        if group in ("", "1", "-1"):
            return
        channel = self._open_channel()
        try:
            _ask(channel, f"kill -9 {group}")
        finally:
            channel.close()

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _ask(channel: ShellChannel, script: str) -> bytes | None:
    """Run a question of our own on an idle channel; its output, or None when nothing answers in time."""
    marker = secrets.token_hex(16)
    frames = FramePair.of(marker, 4096)
    channel.send(framed(script, marker))
    deadline = time.monotonic() + _HELLO_TIMEOUT
    while not frames.done:
        piece = channel.receive(max(0.0, deadline - time.monotonic()))
        if piece is None:
            return None
        (frames.stdout if piece[0] == 1 else frames.stderr).feed(piece[1])
    return frames.stdout.output


def _shorten(command: str) -> str:
    line = " ".join(command.split())
    return line if len(line) <= 100 else line[:97] + "..."


def run_once(open_channel: Callable[[], ShellChannel], command: str, timeout: float) -> Result:
    """One command over a shell of its own, which is closed afterwards. Raises as :meth:`Shell.run`."""
    shell = Shell(open_channel, timeout=timeout)
    try:
        return shell.run(command)
    finally:
        shell.close()
