"""A static busybox from outside the image, for images that have no shell.

It goes into a volume of the container, never into the image, and travels through the engine's API, so the engine may
be remote.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import subprocess
import tarfile
from functools import lru_cache
from pathlib import Path

from certify.errors import ShellUnavailable

_ELF_MACHINES = {"amd64": 62, "arm64": 183, "arm": 40, "386": 3}
_PT_INTERP = 3


@lru_cache(maxsize=4)
def archive(architecture: str) -> bytes:
    """A tar with ``busybox`` and ``bin/<applet>`` links, for ``architecture``. Raises ShellUnavailable."""
    path = os.environ.get("CERTIFY_BUSYBOX") or shutil.which("busybox")
    remedy = "install a static one (apt-get install busybox-static), or name one in CERTIFY_BUSYBOX"
    if path is None:
        raise ShellUnavailable("the image has no shell and this machine no busybox to lend it", remedy)
    binary = Path(path).read_bytes()
    if not is_static_for(binary, architecture):
        raise ShellUnavailable(f"{path} is no static {architecture} program", remedy)
    applets = subprocess.run([path, "--list"], capture_output=True, text=True, check=True, timeout=10).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("busybox")
        info.size, info.mode = len(binary), 0o755
        tar.addfile(info, io.BytesIO(binary))
        for applet in applets:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "../busybox"
            tar.addfile(link)
    return buffer.getvalue()


def is_static_for(binary: bytes, architecture: str) -> bool:
    """Whether ``binary`` is an ELF program for ``architecture`` without an interpreter (System V ABI, program header)."""
    if binary[:4] != b"\x7fELF" or len(binary) < 64:
        return False
    wide = binary[4] == 2
    machine = struct.unpack_from("<H", binary, 18)[0]
    offset = struct.unpack_from("<Q", binary, 32)[0] if wide else struct.unpack_from("<I", binary, 28)[0]
    size, count = struct.unpack_from("<HH", binary, 54 if wide else 42)
    if offset + size * count > len(binary):
        return False
    kinds = [struct.unpack_from("<I", binary, offset + size * i)[0] for i in range(count)]
    return bool(machine == _ELF_MACHINES.get(architecture) and _PT_INTERP not in kinds)
