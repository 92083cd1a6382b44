"""Writes a disk by its manifest and proves it: whatever happens on the way, the disk either boots the image or not at all.

1. The first chunk, which holds the partition table, is zeroed: from here on the disk boots nothing.
2. The disk is surveyed: chunks that have the right digest stay (so resuming a cut write, and going from one image to the
   next, are the same thing). Blocks of the image that lie at other places are put together to chunks behind the image's end.
3. What is not right is zeroed, taken from there, or fetched; nothing is written that was not verified.
4. Everything written is read back from the medium, past the page cache, when all of it is there. What is compared is the CRC-32
   (RFC 1952, section 8) that the verified bytes had in memory: it is there to find a broken disk, and costs a third of a digest.
5. The seed, the second partition table, and last the first chunk.
"""

from __future__ import annotations

import hashlib
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar
from uuid import UUID

from .blocks import Blocks, gaps, runs
from .gpt import SECTOR, move
from .medium import Medium, WriteFailed, opened

ZERO = ""
_SAMPLES = 64  # places where a disk is looked at to see whether there is anything on it
_SAMPLE = 4096
_NEAR = 8  # blocks that are rather fetched once more than asked for around
_WORTH = 8  # a chunk is put together when the disk has at least this part of it (1/8)
_Item = TypeVar("_Item")
_Done = TypeVar("_Done")


class Source(Protocol):
    """Where the image comes from. Both raise OSError or WriteFailed."""

    def piece(self, start: int, into: memoryview) -> None:
        """Fill ``into`` with the image's bytes from ``start`` on; they are verified here."""
        ...

    def blocks(self) -> bytes:
        """The block index, verified."""
        ...


@dataclass(frozen=True)
class Order:
    """What to write: ``chunks`` as in the manifest, ``size`` of the image in bytes, the seed's content and partition id."""

    size: int
    chunk_size: int
    chunks: list[str]
    block_size: int
    seed: bytes
    seed_id: UUID


@dataclass
class Tally:
    """Counts of one write, in chunks and bytes; read by whoever reports progress."""

    total: int = 0
    kept: int = 0
    zeroed: int = 0
    moved: int = 0
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


class Writer:
    """One write of one disk."""

    def __init__(self, path: str, order: Order, source: Source, *, workers: int = 4) -> None:
        self._path = path
        self._order = order
        self._source = source
        self._workers = workers
        self._zero = bytes(order.chunk_size)
        self.tally = Tally(total=len(order.chunks))

    def write(self) -> None:
        """All of it. Raises WriteFailed, BadTable for a table that cannot be moved, OSError of disk or source."""
        with opened(self._path) as medium:
            first = bytes(self._fetched(medium, 0)) if self._order.chunks[0] != ZERO else self._zeroes(0)
            moved = move(first, medium.size, len(self._order.seed), self._order.seed_id)
            medium.put(0, self._zeroes(0))
            medium.flush()
            began = time.monotonic()
            wrong, aside = self._survey(medium, moved.seed_at)
            sums = self._each(lambda i: self._right(medium, i, aside.get(i)), wrong)
            written = [(i, known) for i, known in zip(wrong, sums, strict=True) if known is not None]
            medium.flush()
            flushed = time.monotonic()
            self._each(lambda it: self._read_back(medium, *it), written)
            self.tally.write_seconds = round(flushed - began, 3)
            self.tally.read_back_seconds = round(time.monotonic() - flushed, 3)
            end = medium.size // SECTOR * SECTOR
            for at, piece in ((moved.seed_at, self._order.seed), (end - len(moved.tail), moved.tail), (0, moved.head)):
                medium.put(at, piece)
                medium.flush()
                medium.prove(at, piece)
            self.tally.add(verified=1)

    def _each(self, work: Callable[[_Item], _Done], items: Iterable[_Item]) -> list[_Done]:
        """Side by side, in order; after the first failure nothing new is begun."""
        with ThreadPoolExecutor(self._workers) as pool:
            try:
                return list(pool.map(work, items))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    # -- what is there ---------------------------------------------------------------------------------------------

    def _survey(self, medium: Medium, end: int) -> tuple[list[int], dict[int, int]]:
        """The chunks that are not right, and at which bytes those lie that were put together, before ``end``."""
        rest, size = range(1, len(self._order.chunks)), self._order.chunk_size
        if self._looks_blank(medium):
            return list(rest), {}
        lengths = {i: self._length(i) for i, digest in enumerate(self._order.chunks) if digest != ZERO}
        index = self._source.blocks()
        self.tally.add(fetched_bytes=len(index))
        blocks = Blocks(index, self._order.block_size, lengths)
        right = self._each(lambda i: self._is_right(medium, blocks, i), rest)
        wrong = [i for i, good in zip(rest, right, strict=True) if not good]
        spare = range(len(self._order.chunks), end // size)
        if any(self._order.chunks[i] != ZERO for i in wrong):
            behind = spare[: len(self._order.chunks)]  # an older system has grown over it
            self._each(lambda i: blocks.scan(medium.read(i * size, size), i * size), behind)
        return wrong, self._put_aside(medium, blocks, wrong, spare)

    def _looks_blank(self, medium: Medium) -> bool:
        """A disk with nothing at many places is not read: the little there may be is fetched."""
        places = (self._order.size * part // _SAMPLES // _SAMPLE * _SAMPLE for part in range(_SAMPLES))
        return all(self._is_zero(medium.read(at, _SAMPLE)) for at in places)

    def _is_right(self, medium: Medium, blocks: Blocks, index: int) -> bool:
        there, wanted = self._read(medium, index), self._order.chunks[index]
        zero = self._is_zero(there)
        if zero if wanted == ZERO else (not zero and hashlib.sha256(there).hexdigest() == wanted):
            if wanted != ZERO:
                blocks.has(index, index * self._order.chunk_size)
            self.tally.add(kept=1, verified=1)
            return True
        if not zero:
            blocks.scan(there, index * self._order.chunk_size)
        return False

    def _put_aside(self, medium: Medium, blocks: Blocks, wrong: list[int], spare: range) -> dict[int, int]:
        """Put together what the disk has enough of, where no block lies that is needed: its old place is written to soon."""
        places = {i: blocks.places(i) for i in wrong if self._order.chunks[i] != ZERO}
        worth = {i: p for i, p in places.items() if _WORTH * sum(at is not None and at >= 0 for at in p) >= len(p)}
        size = self._order.chunk_size
        taken = {at // size for known in worth.values() for at in known if at is not None and at >= 0}
        free = [number * size for number in spare if number not in taken]
        work = list(zip(worth.items(), free, strict=False))  # without room the rest is fetched
        done = self._each(lambda job: self._put_together(medium, blocks.size, *job[0], job[1]), work)
        return {job[0][0]: job[1] for job, good in zip(work, done, strict=True) if good}

    def _put_together(self, medium: Medium, block: int, index: int, places: list[int | None], target: int) -> bool:
        """One chunk from its blocks on the disk and what is missing, written to ``target``; False when it came out wrong."""
        length = self._length(index)
        whole = medium.buffer(length)
        chunk = whole[:length]
        chunk[:] = self._zeroes(index)
        for first, last, at in runs(places, block):
            medium.fill(whole[first * block : last * block], at)
        for first, last in gaps(places, _NEAR):
            part = chunk[first * block : last * block]
            self._source.piece(index * self._order.chunk_size + first * block, part)
            self.tally.add(fetched_bytes=len(part))
        if hashlib.sha256(chunk).hexdigest() != self._order.chunks[index]:
            return False
        medium.put_buffer(target, chunk)
        return True

    # -- making it right -------------------------------------------------------------------------------------------

    def _right(self, medium: Medium, index: int, aside: int | None) -> int | None:
        """Make one chunk right; the CRC of what was written, None when it was right already."""
        at = index * self._order.chunk_size
        if self._order.chunks[index] == ZERO:
            if self._is_zero(self._read(medium, index)):
                self.tally.add(kept=1, verified=1)
                return None
            medium.put(at, self._zeroes(index))
            self.tally.add(zeroed=1)
            return zlib.crc32(self._zeroes(index))
        there = None if aside is None else medium.read(aside, self._length(index))
        if there is not None and hashlib.sha256(there).hexdigest() == self._order.chunks[index]:
            self.tally.add(moved=1)
        else:
            there = self._fetched(medium, index)
        known = zlib.crc32(there)
        medium.put_buffer(at, there)
        return known

    def _fetched(self, medium: Medium, index: int) -> memoryview:
        """A chunk as it came, verified."""
        piece = medium.buffer(self._length(index))[: self._length(index)]
        self._source.piece(index * self._order.chunk_size, piece)
        if hashlib.sha256(piece).hexdigest() != self._order.chunks[index]:
            raise WriteFailed(f"chunk {index} came with the wrong content; nothing of it was written")
        self.tally.add(fetched=1, fetched_bytes=len(piece))
        return piece

    def _read_back(self, medium: Medium, index: int, known: int) -> None:
        if zlib.crc32(self._read(medium, index)) != known:
            raise WriteFailed(f"chunk {index} is not on the medium as it was written: the disk is broken")
        self.tally.add(verified=1)

    def _length(self, index: int) -> int:
        return min(self._order.chunk_size, self._order.size - index * self._order.chunk_size)

    def _zeroes(self, index: int) -> bytes:
        return self._zero[: self._length(index)]

    def _is_zero(self, there: memoryview) -> bool:
        return bytes(there) == self._zero[: len(there)]  # two byte strings are compared as fast as memory goes

    def _read(self, medium: Medium, index: int) -> memoryview:
        return medium.read(index * self._order.chunk_size, self._length(index))
