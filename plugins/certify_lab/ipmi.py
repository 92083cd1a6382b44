"""The lab's IPMI service: virtualbmc for power and boot device, and the nodes' serial lines over LAN. A process of its own.

``python -m certify_lab.ipmi SETTINGS``, where SETTINGS is a JSON file: libvirt's address, user, password file, and of every node
its name, UUID, UDP port and the socket of its serial line.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt
from virtualbmc.vbmc import VirtualBMC

_AGAIN = 0.3
_OPEN_SESSION, _OPEN_ANSWER, _SHA256, _NO_SUCH_SUITE = 0x10, 0x11, 3, 0x11  # IPMI 2.0, tables 13-16, 13-17 and 13-15


class LabBmc(VirtualBMC):  # type: ignore[misc]
    """virtualbmc with what it lacks of a BMC: a serial line (pyghmi's server speaks SOL, and virtualbmc gives it nothing to
    say), the machine's UUID, and a no to cipher suites that it does not speak, so that clients choose another."""

    def __init__(self, identity: UUID, console: Path, **options: Any) -> None:
        super().__init__(**options)
        self._identity = identity
        self._console = console
        self._line: socket.socket | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def is_active(self) -> bool:
        """A payload can be activated: the line is there whether the node is on or not."""
        return True

    def sessionless_data(self, data: bytes, sockaddr: Any) -> None:
        if len(data) > 28 and (data[4], data[5], data[28]) == (6, _OPEN_SESSION, _SHA256):
            answer = bytes([data[16], _NO_SUCH_SUITE, 0, 0]) + bytes(data[20:24])
            header = bytes([6, 0, 0xFF, 7, 6, _OPEN_ANSWER]) + bytes(8) + len(answer).to_bytes(2, "little")
            self.serversocket.sendto(header + answer, sockaddr)
        else:
            super().sessionless_data(data, sockaddr)

    def activate_payload(self, request: dict[str, Any], session: Any) -> None:
        super().activate_payload(request, session)
        if self.sol:
            self.sol.maxoutcount = (
                240  # pyghmi would send 256 bytes at once, whose count does not fit into an answer's byte
            )

    def get_system_guid(self) -> UUID:
        return self._identity

    def iohandler(self, data: bytes) -> None:
        """What the other side typed."""
        with suppress(OSError, AttributeError):  # the machine is off: nobody is there to read
            self._line.sendall(data)  # type: ignore[union-attr]

    def _listen(self) -> None:
        """The node's QEMU has the socket while it runs; each run is a new one."""
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as line:
                    line.connect(str(self._console))
                    self._line = line
                    while piece := line.recv(1024):
                        if self.sol:
                            self.sol.send_data(piece)
            except OSError:
                self._line = None
            time.sleep(_AGAIN)


def main(path: Path) -> None:
    """Serve every node of the settings until killed."""
    settings = json.loads(path.read_text())
    libvirt.registerErrorHandler(lambda *_: None, None)
    password = Path(settings["password"]).read_text()
    bmcs = [
        LabBmc(
            UUID(node["uuid"]), Path(node["console"]), domain_name=node["name"], libvirt_uri=settings["uri"],
            username=settings["user"], password=password, address="127.0.0.1", port=node["port"],
        )
        for node in settings["nodes"]
    ]  # fmt: skip
    bmcs[0].listen()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
