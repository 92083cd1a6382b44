"""Which acceleration works here, proved by a guest, and how fast guests are.

The probe is a boot sector: it writes ``S`` to the first serial port, counts a loop down, and writes ``E``. A host whose
``/dev/kvm`` opens but whose guests hang never says ``E``. The answer holds as long as the host is up and its QEMU the same.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from certify.errors import EngineUnavailable
from certify.files import write_whole
from certify.images.store import Store
from certify.locks import locked

_LOOPS = 200_000_000
#: Seconds the loop takes on a host with hardware virtualisation; what ``patience`` is measured in.
_REFERENCE = 0.1
_DEADLINES = {"kvm": 4.0, "tcg": 60.0}
_MOST_PATIENCE = 10.0


@dataclass(frozen=True)
class Acceleration:
    """``name`` is kvm or tcg, ``why`` the reason in words, ``patience`` by how much deadlines are stretched (1 and up)."""

    name: str
    why: str
    patience: float


def boot_sector(loops: int) -> bytes:
    """512 bytes that a BIOS boots: S, ``loops`` times nothing, E on COM1, then halt."""
    say = b"\xba\xf8\x03\xb0%c\xee"  # mov dx, 0x3f8; mov al, …; out dx, al
    count = b"\x66\xb9" + struct.pack("<I", loops) + b"\x66\x49\x75\xfc"  # mov ecx, …; dec ecx; jnz back
    code = b"\xfa" + say % b"S" + count + say % b"E" + b"\xf4\xeb\xfd"  # cli … hlt; jmp back
    return code.ljust(510, b"\0") + b"\x55\xaa"


def prove(store: Store, wanted: str, qemu_version: str) -> Acceleration:
    """The acceleration to use: ``wanted``, or for ``auto`` kvm if a guest runs with it, else tcg.

    Raises EngineUnavailable when what is wanted does not work.
    """
    note = store.folder("acceleration") / f"{wanted}.json"
    boot_id, usable = (
        Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        os.access("/dev/kvm", os.R_OK | os.W_OK),
    )
    key = f"{boot_id} {qemu_version} {usable}"
    with locked(note.with_suffix(".lock")):
        known = msgspec.json.decode(note.read_bytes(), type=dict[str, Acceleration]) if note.exists() else {}
        if key not in known:
            known = {key: _prove(wanted)}
            write_whole(note, msgspec.json.encode({key: asdict(known[key])}))
        return known[key]


def _prove(wanted: str) -> Acceleration:
    reason = "acceleration: tcg is configured"
    if wanted in ("auto", "kvm"):
        took, reason = _try_kvm()
        if took is not None:
            return Acceleration("kvm", "a guest ran with it", _patience(took))
        if wanted == "kvm":
            raise EngineUnavailable(
                f"acceleration: kvm is configured, but {reason}", "see `certify doctor`, or set it to auto"
            )
    took = _run_probe("tcg")
    if took is None:
        raise EngineUnavailable("not even a software-emulated guest runs here", "try qemu-system-x86_64 by hand")
    return Acceleration("tcg", reason, _patience(took))


def _patience(took: float) -> float:
    return round(min(_MOST_PATIENCE, max(1.0, took / _REFERENCE)), 1)


def _try_kvm() -> tuple[float | None, str]:
    if not Path("/dev/kvm").exists():
        return None, "/dev/kvm does not exist (no hardware virtualisation, or its kernel module is missing)"
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return None, "/dev/kvm may not be opened (add yourself to the group kvm)"
    took = _run_probe("kvm")
    return (
        took,
        "" if took is not None else f"/dev/kvm opens, but a guest made no progress in {_DEADLINES['kvm']:.0f} s",
    )


def _run_probe(name: str) -> float | None:
    """Seconds between S and E, or None when E does not come in time."""
    with tempfile.TemporaryDirectory(prefix="certify-probe-") as folder:
        disk = Path(folder) / "disk"
        disk.write_bytes(boot_sector(_LOOPS))
        ours, theirs = socket.socketpair()
        command = [
            "qemu-system-x86_64", "-accel", name, "-m", "32", "-display", "none", "-nodefaults", "-no-user-config",
            "-chardev", f"socket,id=c,fd={theirs.fileno()}", "-serial", "chardev:c",
            "-drive", f"file={disk},format=raw,if=ide,snapshot=on",
        ]  # fmt: skip
        try:
            process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            raise EngineUnavailable("qemu-system-x86_64 is not installed", "apt-get install qemu-system-x86") from None
        theirs.close()
        try:
            return _time_between(ours, time.monotonic() + _DEADLINES[name])
        finally:
            process.kill()
            process.wait()
            ours.close()


def _time_between(pipe: socket.socket, deadline: float) -> float | None:
    began = None
    while (left := deadline - time.monotonic()) > 0:
        pipe.settimeout(left)
        try:
            said = pipe.recv(1)
        except TimeoutError:
            return None
        if not said:
            return None
        if said == b"S":
            began = time.monotonic()
        elif said == b"E" and began is not None:
            return time.monotonic() - began
    return None
