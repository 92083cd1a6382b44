"""One disk, opened for ourselves alone: whole pages are read and written past the page cache, the rest through it."""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_BLKGETSIZE64 = 0x80081272  # linux/fs.h
_MIB = 1024 * 1024


class WriteFailed(Exception):
    """The disk could not be written or is not what was written; it boots nothing. The message says which chunk."""


class Medium:
    """``size`` in bytes. Safe to use from several threads, each with a buffer of its own."""

    def __init__(self, direct: int, cached: int) -> None:
        self._direct = direct
        self._cached = cached
        self._buffers = threading.local()
        self.size = size_of(direct)

    def buffer(self, length: int) -> memoryview:
        """This thread's buffer, of whole pages; what it held before is gone with the next use."""
        space = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        kept: mmap.mmap | None = getattr(self._buffers, "kept", None)
        if kept is None or len(kept) < space:
            kept = self._buffers.kept = mmap.mmap(-1, space)
        return memoryview(kept)

    def read(self, at: int, length: int) -> memoryview:
        """From the medium, or what the drive says it is; ``at`` on a page's border. Into this thread's buffer."""
        view = self.buffer(length)
        return view[: min(length, self.fill(view[: -(-length // mmap.PAGESIZE) * mmap.PAGESIZE], at))]

    def fill(self, view: memoryview, at: int) -> int:
        """Read whole pages at ``at`` into a part of the buffer that begins at a page's border; fewer bytes at the end."""
        done = 0
        while done < len(view) and (got := os.preadv(self._direct, [view[done:]], at + done)):
            done += got
        return done

    def put(self, at: int, piece: bytes | memoryview) -> None:
        """Write; it is on the medium after :meth:`flush`."""
        self._write(self._cached, at, memoryview(piece))

    def put_buffer(self, at: int, view: memoryview) -> None:
        """Write the beginning of this thread's buffer to a page's border; on the medium after :meth:`flush`."""
        self._write(self._cached if len(view) % mmap.PAGESIZE else self._direct, at, view)

    @staticmethod
    def _write(descriptor: int, at: int, view: memoryview) -> None:
        while view:
            done = os.pwrite(descriptor, view, at)
            at, view = at + done, view[done:]

    def flush(self) -> None:
        """Everything written so far is on the medium, and no copy of it in memory."""
        os.fsync(self._cached)
        os.posix_fadvise(self._cached, 0, 0, os.POSIX_FADV_DONTNEED)

    def prove(self, at: int, piece: bytes) -> None:
        """Raises WriteFailed unless ``piece`` is on the medium, wherever that is."""
        skip = at % mmap.PAGESIZE
        if self.read(at - skip, skip + len(piece))[skip:] != piece:
            raise WriteFailed(f"byte {at} and on are not on the medium as they were written: the disk is broken")


def wipe(path: str, *, full: bool) -> int:
    """Zero the disk's partition tables (its first and last MiB) or all of it; read back what was zeroed. Returns bytes.

    Raises WriteFailed, OSError.
    """
    piece = bytes(_MIB)
    with opened(path) as medium:
        ends = (0, max(0, medium.size - len(piece)))
        places = range(0, medium.size, len(piece)) if full else ends
        for at in places:
            medium.put(at, piece[: medium.size - at])
        medium.flush()
        for at in ends:
            medium.prove(at, piece[: medium.size - at])
        return sum(min(len(piece), medium.size - at) for at in places)


@contextmanager
def opened(path: str) -> Iterator[Medium]:
    """The disk, for ourselves alone (O_EXCL on a block device: not mounted, nobody else's)."""
    alone = os.O_EXCL if stat.S_ISBLK(os.stat(path).st_mode) else 0  # noqa: PTH116
    direct = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_DIRECT | alone)
    try:
        cached = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            yield Medium(direct, cached)
        finally:
            os.close(cached)
    finally:
        os.close(direct)


def size_of(descriptor: int) -> int:
    """Bytes of a block device or file."""
    if stat.S_ISBLK(os.fstat(descriptor).st_mode):
        answer = fcntl.ioctl(descriptor, _BLKGETSIZE64, bytes(8))
        return int(struct.unpack("<Q", answer)[0])
    return os.fstat(descriptor).st_size
