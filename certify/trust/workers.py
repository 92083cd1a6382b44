"""How workers of a run tell the notary what they load: at once, over a socket of the notary's own, past the run's process.

Datagrams in Linux's abstract namespace (unix(7)): each is one message, in order; what was sent cannot be taken back, and a
message of another user's process is none.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import threading

import msgspec
from msgspec import Struct

from certify.trust.witness import Loaded, Witness

_LARGEST = 64 * 1024
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
#: The variable that says where the notary listens.
ADDRESS = "CERTIFY_NOTARY"


class Hello(Struct, frozen=True, tag="hello"):
    """A worker's first word."""


class _Drained(Struct, frozen=True, tag="drained"):
    """The notary's word to itself: what was sent before has been read."""


def new_address() -> str:
    """An address that nobody else has; without the zero byte that abstract ones begin with."""
    return f"certify-{secrets.token_hex(16)}"


class WorkersLine:
    """The notary's end."""

    def __init__(self, address: str, witness: Witness) -> None:
        self._address = f"\0{address}"
        self._witness = witness
        self._workers: set[int] = set()
        self._drained = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(self._address)
        threading.Thread(target=self._listen, daemon=True).start()

    def heard_from(self) -> int:
        """How many workers have spoken, when everything that was sent until now has been read."""
        self._drained.clear()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mine:
            mine.sendto(msgspec.json.encode(_Drained()), self._address)
        self._drained.wait(timeout=60)
        return len(self._workers)

    def _listen(self) -> None:
        while True:
            data, ancillary, _, _ = self._socket.recvmsg(_LARGEST, socket.CMSG_SPACE(_CREDENTIALS.size))
            senders = [_CREDENTIALS.unpack(value[: _CREDENTIALS.size]) for _, _, value in ancillary]
            if not senders or senders[0][1] != os.geteuid():
                continue
            try:
                self._heard(senders[0][0], msgspec.json.decode(data, type=Hello | Loaded | _Drained))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # no word of a worker's: whoever sent it is not counted

    def _heard(self, process: int, told: Hello | Loaded | _Drained) -> None:
        if isinstance(told, Hello):
            self._workers.add(process)
        elif isinstance(told, Loaded):
            self._witness.take(told)
        else:
            self._drained.set()


class Telling:
    """A worker's end. Raises OSError where nobody listens."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.connect(f"\0{address}")
        self.tell(Hello())

    def tell(self, message: Hello | Loaded) -> None:
        """Send one message; it waits while the notary is busy."""
        self._socket.send(msgspec.json.encode(message))
