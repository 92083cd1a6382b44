"""Writes a disk by its manifest and proves it: whatever happens on the way, the disk either boots the image or not at all.

1. The first chunk, which holds the partition table, is zeroed: from here on the disk boots nothing.
2. Every other chunk is read from the medium. What has the right digest stays (so resuming a cut write, and going from one
   image to the next, are the same thing); what must be zero is zeroed; the rest is fetched, verified, then written.
3. Everything written is read back from the medium, past the page cache, and verified again.
4. The seed, the second partition table, and last the first chunk.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

from .gpt import SECTOR, move

_BLKGETSIZE64 = 0x80081272  # linux/fs.h
ZERO = ""


class WriteFailed(Exception):
    """The disk could not be written or is not what was written; it boots nothing. The message says which chunk."""


@dataclass(frozen=True)
class Order:
    """What to write: ``chunks`` as in the manifest, ``size`` of the image in bytes, the seed's content and partition id."""

    size: int
    chunk_size: int
    chunks: list[str]
    seed: bytes
    seed_id: UUID


@dataclass
class Tally:
    """Counts of one write, in chunks and bytes; read by whoever reports progress."""

    total: int = 0
    kept: int = 0
    zeroed: int = 0
    fetched: int = 0
    fetched_bytes: int = 0
    verified: int = 0
    write_seconds: float = 0.0
    read_back_seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, **counts: int) -> None:
        """Add to some counts."""
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def numbers(self) -> dict[str, float]:
        """For a report."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "lock"}


@dataclass(frozen=True)
class Disk:
    """One open disk: ``direct`` reads past the page cache, ``cached`` writes through it; ``size`` in bytes."""

    direct: int
    cached: int
    size: int


class Writer:
    """One write of one disk. ``fetch(index)`` returns a chunk's bytes as they came; they are verified here."""

    def __init__(self, path: str, order: Order, fetch: Callable[[int], bytes], *, workers: int = 4) -> None:
        self._path = path
        self._order = order
        self._fetch = fetch
        self._workers = workers
        self._buffers = threading.local()
        self._zero = bytes(order.chunk_size)
        self.tally = Tally(total=len(order.chunks))

    def write(self) -> None:
        """All of it. Raises WriteFailed, BadTable for a table that cannot be moved, OSError of the disk."""
        with _opened(self._path) as disk:
            first = self._checked(0, self._fetch(0)) if self._order.chunks[0] != ZERO else self._zeroes(0)
            moved = move(first, disk.size, len(self._order.seed), self._order.seed_id)
            self.tally.add(fetched=1, fetched_bytes=len(first))
            self._put(disk, 0, self._zeroes(0))
            _flush(disk)
            rest = range(1, len(self._order.chunks))
            with ThreadPoolExecutor(self._workers) as pool:
                began = time.monotonic()
                written = [i for i in pool.map(lambda i: self._one(disk, i), rest) if i is not None]
                _flush(disk)
                flushed = time.monotonic()
                for _ in pool.map(lambda i: self._verify(disk, i), written):
                    pass
                self.tally.write_seconds = round(flushed - began, 3)
                self.tally.read_back_seconds = round(time.monotonic() - flushed, 3)
            end = disk.size // SECTOR * SECTOR
            for at, piece in ((moved.seed_at, self._order.seed), (end - len(moved.tail), moved.tail), (0, moved.head)):
                self._put(disk, at, piece)
                _flush(disk)
                self._prove(disk, at, piece)
            self.tally.add(verified=1)

    def _one(self, disk: Disk, index: int) -> int | None:
        """Make one chunk right; its index when it was written, None when it was right already."""
        wanted = self._order.chunks[index]
        there = self._read(disk, index)
        if wanted == ZERO:
            if self._is_zero(there):
                self.tally.add(kept=1, verified=1)
                return None
            self._put(disk, index * self._order.chunk_size, self._zeroes(index))
            self.tally.add(zeroed=1)
            return index
        if not self._is_zero(there) and hashlib.sha256(there).hexdigest() == wanted:
            self.tally.add(kept=1, verified=1)
            return None
        piece = self._checked(index, self._fetch(index))
        self._put(disk, index * self._order.chunk_size, piece)
        self.tally.add(fetched=1, fetched_bytes=len(piece))
        return index

    def _verify(self, disk: Disk, index: int) -> None:
        there = self._read(disk, index)
        wanted = self._order.chunks[index]
        if not self._is_zero(there) if wanted == ZERO else hashlib.sha256(there).hexdigest() != wanted:
            raise WriteFailed(f"chunk {index} is not on the medium as it was written: the disk is broken")
        self.tally.add(verified=1)

    @staticmethod
    def _prove(disk: Disk, at: int, piece: bytes) -> None:
        if _medium(disk, at, len(piece)) != piece:
            raise WriteFailed(f"byte {at} and on are not on the medium as they were written: the disk is broken")

    def _checked(self, index: int, piece: bytes) -> bytes:
        if len(piece) != self._length(index) or hashlib.sha256(piece).hexdigest() != self._order.chunks[index]:
            raise WriteFailed(
                f"chunk {index} came with the wrong content ({len(piece)} bytes); nothing of it was written"
            )
        return piece

    def _length(self, index: int) -> int:
        return min(self._order.chunk_size, self._order.size - index * self._order.chunk_size)

    def _zeroes(self, index: int) -> bytes:
        return self._zero[: self._length(index)]

    def _is_zero(self, there: memoryview) -> bool:
        return bytes(there) == self._zero[: len(there)]  # two byte strings are compared as fast as memory goes

    def _read(self, disk: Disk, index: int) -> memoryview:
        return self._direct(disk, index * self._order.chunk_size, self._length(index))

    def _direct(self, disk: Disk, at: int, length: int) -> memoryview:
        """Read past the page cache: from the medium, or what the drive says it is. Into this thread's own buffer."""
        space = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        buffer: mmap.mmap | None = getattr(self._buffers, "buffer", None)
        if buffer is None or len(buffer) < space:
            buffer = self._buffers.buffer = mmap.mmap(-1, space)
        return memoryview(buffer)[: min(length, _fill(disk, buffer, at, length))]

    @staticmethod
    def _put(disk: Disk, at: int, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            done = os.pwrite(disk.cached, view, at)
            at, view = at + done, view[done:]


def _fill(disk: Disk, buffer: mmap.mmap, at: int, length: int) -> int:
    """Read whole pages past the page cache into ``buffer``, at least ``length`` bytes. Returns how many; fewer at the end."""
    view, done = memoryview(buffer), 0
    while done < length and (got := os.preadv(disk.direct, [view[done:]], at + done)):
        done += got
    return done


def _medium(disk: Disk, at: int, length: int) -> bytes:
    """``length`` bytes at ``at``, wherever that is, past the page cache."""
    skip = at % mmap.PAGESIZE
    buffer = mmap.mmap(-1, -(-(skip + length) // mmap.PAGESIZE) * mmap.PAGESIZE)
    return buffer[skip : min(skip + length, _fill(disk, buffer, at - skip, skip + length))]


def wipe(path: str, *, full: bool) -> int:
    """Zero the disk's partition tables (its first and last MiB) or all of it; read back what was zeroed. Returns bytes.

    Raises WriteFailed, OSError.
    """
    piece = bytes(1024 * 1024)
    with _opened(path) as disk:
        ends = (0, max(0, disk.size - len(piece)))
        places = range(0, disk.size, len(piece)) if full else ends
        for at in places:
            os.pwrite(disk.cached, piece[: disk.size - at], at)
        _flush(disk)
        for at in ends:
            if _medium(disk, at, len(piece)).strip(b"\0"):
                raise WriteFailed(f"byte {at} and on are not zero after the wipe: the disk is broken")
        return sum(min(len(piece), disk.size - at) for at in places)


def _flush(disk: Disk) -> None:
    """Everything written so far is on the medium, and no copy of it in memory."""
    os.fsync(disk.cached)
    os.posix_fadvise(disk.cached, 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def _opened(path: str) -> Iterator[Disk]:
    """The disk, for ourselves alone (O_EXCL on a block device: not mounted, nobody else's)."""
    alone = os.O_EXCL if stat.S_ISBLK(os.stat(path).st_mode) else 0  # noqa: PTH116
    direct = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT | alone)
    try:
        cached = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            yield Disk(direct, cached, size_of(direct))
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
