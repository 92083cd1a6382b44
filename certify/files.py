"""Writing files so that a reader, or the next run after a kill, sees the old content or the new one, never half."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(path: Path, data: bytes, *, sync: bool = False, mode: int = 0o644) -> None:
    """Write ``data`` to ``path``, whole or not at all; ``sync``: file and folder entry are on the disk before this returns.

    The temporary name beside it is new each time and never a link that somebody laid there. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        partial.replace(path)
        if sync:
            _sync_folder(path.parent)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def read_regular(path: Path, at_most: int) -> bytes:
    """A regular file's bytes. Raises OSError for anything else (a pipe may never end) and for more than ``at_most``."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        import stat

        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(22, "not a regular file", str(path))
        data = file.read(at_most + 1)
    if len(data) > at_most:
        raise OSError(27, f"larger than {at_most} bytes", str(path))
    return data


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
