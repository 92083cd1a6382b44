"""One machine's serial line over LAN (IPMI 2.0, section 15) on standard output, until standard input ends.

``python -m certify_metal.bmc.ipmi_sol``; the first line of standard input is ``{"host", "port", "user", "password"}``.
A process of its own: what a BMC sends on the serial line must not disturb its power commands.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from pyghmi.ipmi.console import Console


def main() -> int:
    """Listen. The status is 1 when the line was refused or lost; its last words say why."""
    given = json.loads(sys.stdin.readline())
    over = threading.Event()
    why: list[str] = []

    def wait_for_the_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()

    def hear(piece: Any) -> None:
        if isinstance(piece, dict):
            why.append(str(piece.get("error", piece)))
        else:
            os.write(1, piece)

    line = Console(given["host"], given["user"], given["password"], iohandler=hear, port=given["port"], force=True)
    while not over.is_set() and not line.broken and not why:
        line.wait_for_rsp(0.5)
    if over.is_set():
        line.close()
        return 0
    os.write(1, f"\n[{why[-1] if why else 'lost'}]\n".encode())
    return 1


if __name__ == "__main__":
    sys.exit(main())
