"""Byte pipes to a guest's ports: a node's own sockets where the hypervisor is embedded, libvirt streams elsewhere.

Either way the rest of the driver sees a connected socket.
"""

from __future__ import annotations

import socket
from typing import Any

import libvirt

from certify.errors import ShellUnavailable
from certify_libvirt.hypervisor import translated

_PIECE = 65536
_WOULD_BLOCK = -2
_READ_HANDLE = libvirt.VIR_EVENT_HANDLE_READABLE
_READ_STREAM = libvirt.VIR_STREAM_EVENT_READABLE | libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP


def connect_socket(path: str) -> socket.socket:
    """A node's own socket. Raises ShellUnavailable."""
    pipe = socket.socket(socket.AF_UNIX)
    try:
        pipe.connect(path)
    except OSError as error:
        pipe.close()
        raise ShellUnavailable(f"its port cannot be reached: {error}", "see its console") from None
    return pipe


def open_stream(connection: Any, opener: Any) -> socket.socket:
    """A libvirt stream as a socket; ``opener(stream)`` attaches it (openChannel, openConsole). Raises ShellUnavailable."""
    with translated(ShellUnavailable):
        stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
        opener(stream)
    ours, theirs = socket.socketpair()
    _Bridge(stream, theirs)
    return ours


class _Bridge:
    """Moves bytes both ways in libvirt's event thread, until either side ends. What the guest does not take waits here, and
    nothing more is read for it meanwhile."""

    def __init__(self, stream: Any, end: socket.socket) -> None:
        self._stream = stream
        self._end = end
        self._pending = b""
        end.setblocking(True)
        self._handle: int | None = libvirt.virEventAddHandle(end.fileno(), _READ_HANDLE, self._from_us, None)
        stream.eventAddCallback(_READ_STREAM, self._from_guest, None)

    def _from_us(self, watch: int, descriptor: int, events: int, opaque: Any) -> None:
        del watch, descriptor, events, opaque
        try:
            data = self._end.recv(_PIECE)
            if not data:
                self._close()
                return
            self._pending += data
            self._flush()
        except (OSError, libvirt.libvirtError):
            self._close()

    def _flush(self) -> None:
        """Send what waits; come back when the stream takes more."""
        while self._pending:
            sent = self._stream.send(self._pending)
            if sent == _WOULD_BLOCK:
                break
            self._pending = self._pending[sent:]
        if self._handle is not None:
            libvirt.virEventUpdateHandle(self._handle, 0 if self._pending else _READ_HANDLE)
            self._stream.eventUpdateCallback(_READ_STREAM | (libvirt.VIR_STREAM_EVENT_WRITABLE if self._pending else 0))

    def _from_guest(self, stream: Any, events: int, opaque: Any) -> None:
        del opaque
        try:
            if events & libvirt.VIR_STREAM_EVENT_WRITABLE:
                self._flush()
            if not events & ~libvirt.VIR_STREAM_EVENT_WRITABLE:
                return
            data = stream.recv(_PIECE) if events & libvirt.VIR_STREAM_EVENT_READABLE else b""
            if data == _WOULD_BLOCK:
                return
            if not data:
                self._close()
                return
            self._end.sendall(data)
        except (OSError, libvirt.libvirtError):
            self._close()

    def _close(self) -> None:
        if self._handle is None:
            return
        libvirt.virEventRemoveHandle(self._handle)
        self._handle = None
        for action in (self._stream.eventRemoveCallback, self._stream.abort, self._end.close):
            try:
                action()
            except (OSError, libvirt.libvirtError):
                continue  # the other side ended it first
