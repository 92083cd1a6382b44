"""A shell of a booted node over TLS: implements :class:`certify.nodes.platform.ShellChannel`.

Its other end is :mod:`certify_metal.node.guest`.
"""

from __future__ import annotations

import select
import ssl
import struct

from certify.errors import ShellUnavailable

_HEADER = struct.Struct(">BI")
_LARGEST = 65536


class GuestChannel:
    """One connection that a node has made. The node is hostile: a frame that is not one ends the channel."""

    def __init__(self, link: ssl.SSLSocket) -> None:
        self._link = link
        self._left = b""
        self._link.settimeout(60)
        self.send(b"S")

    def send(self, data: bytes) -> None:
        try:
            self._link.sendall(data)
        except OSError as error:
            raise ShellUnavailable(f"the connection to the node broke: {error}") from None

    def receive(self, timeout: float) -> tuple[int, bytes] | None:
        while (frame := self._frame()) is None:
            if not self._link.pending() and not select.select([self._link], [], [], timeout)[0]:
                return None
            try:
                piece = self._link.recv(65536)
            except OSError as error:
                raise ShellUnavailable(f"the connection to the node broke: {error}") from None
            if not piece:
                raise ShellUnavailable("the node hung up")
            self._left += piece
        return frame

    def _frame(self) -> tuple[int, bytes] | None:
        if len(self._left) < _HEADER.size:
            return None
        kind, length = _HEADER.unpack_from(self._left)
        if kind not in (1, 2) or length > _LARGEST:
            raise ShellUnavailable("the node sends what is no frame")
        if len(self._left) < _HEADER.size + length:
            return None
        data = self._left[_HEADER.size : _HEADER.size + length]
        self._left = self._left[_HEADER.size + length :]
        return kind, data

    def close(self) -> None:
        self._link.close()
