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
    """Moves bytes both ways in libvirt's event thread, until either side ends."""

    def __init__(self, stream: Any, end: socket.socket) -> None:
        self._stream = stream
        self._end = end
        self._pending = b""
        end.setblocking(True)
        self._handle = libvirt.virEventAddHandle(end.fileno(), libvirt.VIR_EVENT_HANDLE_READABLE, self._from_us, None)
        readable = libvirt.VIR_STREAM_EVENT_READABLE | libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP
        stream.eventAddCallback(readable, self._from_guest, None)

    def _from_us(self, watch: int, descriptor: int, events: int, opaque: Any) -> None:
        del watch, descriptor, events, opaque
        try:
            data = self._end.recv(_PIECE)
            if not data:
                self._close()
                return
            while data:
                sent = self._stream.send(data)
                data = data[max(sent, 0) :]
        except (OSError, libvirt.libvirtError):
            self._close()

    def _from_guest(self, stream: Any, events: int, opaque: Any) -> None:
        del opaque
        try:
            data = stream.recv(_PIECE) if events & libvirt.VIR_STREAM_EVENT_READABLE else b""
            if data == -2:
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
