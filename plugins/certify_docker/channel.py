"""One ``docker exec`` kept open: the byte channel under a node's shell.

The engine multiplexes the two outputs over one connection: 8 bytes of header, stream number and length, before each
piece (Docker Engine API, "Attach to a container", stream format).
"""

from __future__ import annotations

import struct
import time
from typing import Any

from certify.errors import EngineUnavailable, NodeLost, ShellUnavailable
from certify_docker.engine import translated

_HEADER = struct.Struct(">BxxxL")


class ExecChannel:
    """Implements :class:`certify.nodes.platform.ShellChannel`."""

    def __init__(self, api: Any, container: str, argv: list[str], environment: list[str]) -> None:
        try:
            with translated():
                created = api.exec_create(
                    container, argv, stdin=True, stdout=True, stderr=True, user="0", environment=environment
                )
                self._stream = api.exec_start(created["Id"], socket=True)
        except (EngineUnavailable, NodeLost) as error:
            raise ShellUnavailable(error.message, error.hint) from None
        self._socket = getattr(self._stream, "_sock", self._stream)
        self._buffer = bytearray()

    def send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(30)
            self._socket.sendall(data)
        except OSError as error:
            raise ShellUnavailable(f"cannot write to the shell: {error}") from None

    def receive(self, timeout: float) -> tuple[int, bytes] | None:
        deadline = time.monotonic() + timeout
        while (piece := self._take()) is None:
            left = deadline - time.monotonic()
            if left <= 0 or not self._fill(left):
                return None
        return piece

    def close(self) -> None:
        response = getattr(self._stream, "_response", None)
        if response is not None:  # first: it flushes the stream when closed
            response.close()
        self._stream.close()
        self._socket.close()

    def _fill(self, timeout: float) -> bool:
        try:
            self._socket.settimeout(timeout)
            data = self._socket.recv(262144)
        except TimeoutError:
            return False
        except OSError as error:
            raise ShellUnavailable(f"cannot read from the shell: {error}") from None
        if not data:
            raise ShellUnavailable("the shell has ended")
        self._buffer += data
        return True

    def _take(self) -> tuple[int, bytes] | None:
        if len(self._buffer) < _HEADER.size:
            return None
        stream, length = _HEADER.unpack_from(self._buffer)
        end = _HEADER.size + length
        if len(self._buffer) < end:
            return None
        piece = bytes(self._buffer[_HEADER.size : end])
        del self._buffer[:end]
        return (2 if stream == 2 else 1), piece
