"""A node's shells: slots of two virtio-serial ports each, implementing :class:`certify.nodes.platform.ShellChannel`.

A slot's pipes are connected before the guest starts and stay so: a guest sees a disconnected port as the end of input.
A channel that is closed breaks its connection and makes a new one, which drops whatever was still on its way; the
interpreter in the guest ends with it or is killed by the shell's time-out, and the guest's own loop starts the next.
"""

from __future__ import annotations

import secrets
import select
import socket
import threading
import time
from collections.abc import Callable

from certify.errors import ShellUnavailable
from certify_libvirt.access import Port, shell_ports

_PIECE = 262144
_SYNC_SECONDS = 20.0
_ASK_AGAIN, _ASK_AT_LEAST = 0.25, 4.0
_FREE_SECONDS = 10.0
_LOOK_UP = 0.25  # how often a wait for a command is interrupted to see whether the guest still lives


class Slot:
    """One shell's two pipes."""

    def __init__(self, port: Port, connect: Callable[[str], socket.socket]) -> None:
        self.port = port
        self._connect = connect
        self.connect()

    def connect(self) -> None:
        """Make the connections. Raises ShellUnavailable."""
        self.pipes = {1: self._connect(self.port.both), 2: self._connect(self.port.errors)}

    def disconnect(self) -> None:
        """Break them."""
        for pipe in self.pipes.values():
            pipe.close()

    def synchronise(self, deadline: float, alive: Callable[[], None] | None = None) -> None:
        """Wait until the interpreter answers, asking again and again: it may be a new one that never saw the first.

        ``alive`` is called meanwhile and raises when waiting has become useless. Raises ShellUnavailable at ``deadline``.
        """
        word = secrets.token_hex(8)
        seen, patience, ask_at = b"", _ASK_AGAIN, 0.0
        while time.monotonic() < deadline:
            if alive is not None:
                alive()
            if time.monotonic() >= ask_at:  # less and less often: what nobody reads yet piles up on the way
                self.send(f"\necho S{word}\n".encode())
                ask_at, patience = time.monotonic() + patience, min(patience * 2, _ASK_AT_LEAST)
            until = min(deadline, time.monotonic() + _ASK_AGAIN)
            while (left := until - time.monotonic()) > 0:
                piece = self.receive(left)
                if piece is not None and piece[0] == 1:
                    seen = (seen + piece[1])[-4096:]
                    if f"S{word}\n".encode() in seen:
                        return
        raise ShellUnavailable("no interpreter answers on its port", "see its console")

    def send(self, data: bytes) -> None:
        """Write all. Raises ShellUnavailable."""
        try:
            self.pipes[1].settimeout(30)
            self.pipes[1].sendall(data)
        except OSError as error:
            raise ShellUnavailable(f"cannot write to the shell: {error}") from None

    def receive(self, timeout: float) -> tuple[int, bytes] | None:
        """The next piece of either stream. Raises ShellUnavailable."""
        try:
            ready, _, _ = select.select(list(self.pipes.values()), [], [], timeout)
            for stream, pipe in self.pipes.items():
                if pipe in ready:
                    data = pipe.recv(_PIECE)
                    if not data:
                        raise ShellUnavailable("the machine has ended")
                    return stream, data
        except (OSError, ValueError) as error:
            raise ShellUnavailable(f"cannot read from the shell: {error}") from None
        return None


class SlotChannel:
    """A slot in use. ``lost`` says why there is no use in waiting any more, or nothing."""

    def __init__(self, slot: Slot, give_back: Callable[[Slot], None], lost: Callable[[], str]) -> None:
        self._slot = slot
        self._give_back = give_back
        self._lost = lost
        self._open = True
        self.send = slot.send

    def receive(self, timeout: float) -> tuple[int, bytes] | None:
        deadline = time.monotonic() + timeout
        while (piece := self._slot.receive(min(_LOOK_UP, max(0.0, deadline - time.monotonic())))) is None:
            if reason := self._lost():
                raise ShellUnavailable(reason)
            if time.monotonic() >= deadline:
                return None
        return piece

    def close(self) -> None:
        if self._open:
            self._open = False
            self._give_back(self._slot)


class Slots:
    """All shells of a node."""

    def __init__(self, connect: Callable[[str], socket.socket], lost: Callable[[], str]) -> None:
        self._lost = lost
        self._changed = threading.Condition()
        self._free = [Slot(port, connect) for port in shell_ports()]
        self._all = list(self._free)
        self._closed = False

    def wait_first(self, deadline: float, alive: Callable[[], None]) -> None:
        """Wait until the first interpreter answers."""
        self._free[0].synchronise(deadline, alive)

    def open(self) -> SlotChannel:
        """A channel over a free slot. Raises ShellUnavailable when all stay in use, or nothing answers."""
        deadline = time.monotonic() + _FREE_SECONDS
        with self._changed:
            while not self._free and not self._closed:
                if not self._changed.wait(deadline - time.monotonic()):
                    raise ShellUnavailable(
                        f"all {len(self._all)} shells of the node are in use", "close one before opening another"
                    )
            if self._closed:
                raise ShellUnavailable("the machine was stopped")
            slot = self._free.pop(0)
        try:
            slot.synchronise(time.monotonic() + _SYNC_SECONDS, self._still_there)
        except ShellUnavailable:
            self._give_back(slot)
            raise
        return SlotChannel(slot, self._give_back, self._lost)

    def _still_there(self) -> None:
        if reason := self._lost():
            raise ShellUnavailable(reason)

    def close(self) -> None:
        """Break every connection, also of channels in use."""
        with self._changed:
            self._closed = True
            for slot in self._all:
                slot.disconnect()
            self._changed.notify_all()

    def _give_back(self, slot: Slot) -> None:
        with self._changed:
            slot.disconnect()
            if not self._closed:
                try:
                    slot.connect()
                except ShellUnavailable:
                    return  # the machine is gone; so is the slot
                self._free.append(slot)
                self._changed.notify()
