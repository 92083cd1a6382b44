"""Runs in the booted candidate, started by cloud-init from the seed: proves what booted, then offers shells.

Python's standard library only (every image with cloud-init has it). It connects to the run over TLS, with the run's own
certificate pinned, says who it is in one line, and waits for a byte; then it is an interpreter, and the next connection waits.
Frames to the run: one byte 1 or 2 (standard output or error), four bytes of length, the bytes.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any


def root_disk() -> tuple[str, str]:
    """Name and serial of the disk that the root file system is on."""
    device = Path("/").stat().st_dev
    path = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    while not (path / "queue").exists() and path != path.parent:
        path = path.parent
    for name in ("serial", "device/serial", "device/vpd_pg80"):
        try:
            data = (path / name).read_bytes()
        except OSError:
            continue
        return path.name, data[4 if name.endswith("80") else 0 :].decode("ascii", "replace").strip("\0 \n")
    return path.name, ""


def hello(config: dict[str, Any]) -> bytes:
    """What the run is told."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    name, serial = root_disk()
    said = {"token": config["token"], "boot_id": boot_id, "disk": name, "serial": serial, "digest": config["digest"]}
    return json.dumps(said).encode() + b"\n"


def serve(link: ssl.SSLSocket, taken: threading.Event) -> None:
    """One interpreter, for as long as the connection lives."""
    shell = None
    try:
        first = link.recv(1)
        taken.set()
        if first != b"S":
            return
        shell = subprocess.Popen(
            ["/bin/sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
            env={**os.environ, "HOME": "/root", "USER": "root", "LOGNAME": "root"},
        )
        carry(link, shell)
    except OSError:
        return
    finally:
        taken.set()
        link.close()
        if shell is not None:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()


def carry(link: ssl.SSLSocket, shell: subprocess.Popen[bytes]) -> None:
    """Move bytes both ways until one side ends; one thread, for a TLS connection bears no two."""
    assert shell.stdin is not None
    assert shell.stdout is not None
    assert shell.stderr is not None
    into, kinds, waiting = shell.stdin.fileno(), {shell.stdout.fileno(): 1, shell.stderr.fileno(): 2}, b""
    os.set_blocking(into, False)
    while kinds:
        listen: list[Any] = list(kinds)
        ready = bool(link.pending()) and len(waiting) < 1048576
        if len(waiting) < 1048576:
            listen.append(link)
        readable, writable, _ = select.select(listen, [into] if waiting else [], [], 0 if ready else None)
        if ready or link in readable:
            data = link.recv(65536)
            if not data:
                return
            waiting += data
        if into in writable:
            waiting = waiting[os.write(into, waiting) :]
        for pipe in [p for p in readable if p in kinds]:
            data = os.read(pipe, 65536)
            if data:
                link.sendall(struct.pack(">BI", kinds[pipe], len(data)) + data)
            else:
                del kinds[pipe]


def main(path: str) -> None:
    """Connect, again and again; one connection waits at any time."""
    config = json.loads(Path(path).read_text())
    context = ssl.create_default_context(cadata=config["certificate"])
    context.check_hostname = False
    give_up = config["give_up"]
    began = time.monotonic()
    while give_up is None or time.monotonic() - began < give_up:
        try:
            plain = socket.create_connection((config["host"], config["port"]), timeout=10)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            link = context.wrap_socket(plain)
            link.settimeout(None)
            link.sendall(hello(config))
        except OSError:
            time.sleep(0.3)
            continue
        taken = threading.Event()
        threading.Thread(target=serve, args=(link, taken), daemon=True).start()
        taken.wait()
        began = time.monotonic()


if __name__ == "__main__":
    main(sys.argv[1])
