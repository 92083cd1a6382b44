"""Where on the disk the wanted image's blocks are already: an older image has most of them, at other places.

The index names every block of the image by the first 8 bytes of its sha256 (all zero for a block of zeroes). Names only say
where to look: what is put together by them is verified as a whole chunk.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

_NAME = 8
_ZEROES = 0


class Blocks:
    """The image's block index, and what of it was found on the disk so far. Only :meth:`scan` changes it."""

    def __init__(self, index: bytes, size: int, lengths: dict[int, int]) -> None:
        """``size`` of a block; ``lengths`` of the chunks that are in the index, in its order, both in bytes."""
        self.size = size
        self._index = index
        self._first: dict[int, int] = {}
        at = 0
        for chunk, length in lengths.items():
            self._first[chunk] = at
            at += -(-length // size) * _NAME
        if at != len(index):
            raise ValueError(f"the block index has {len(index)} bytes, and it should be {at}")
        self._lengths = lengths
        self._found = dict.fromkeys(struct.unpack(f"<{len(index) // _NAME}Q", index), -1)
        self._found.pop(_ZEROES, None)

    def names(self, chunk: int) -> Sequence[int]:
        """The names of a chunk's blocks."""
        return struct.unpack_from(f"<{-(-self._lengths[chunk] // self.size)}Q", self._index, self._first[chunk])

    def has(self, chunk: int, at: int) -> None:
        """The disk has this chunk's blocks, from byte ``at`` on."""
        for number, name in enumerate(self.names(chunk)):
            if self._found.get(name) == -1:
                self._found[name] = at + number * self.size

    def scan(self, piece: memoryview, at: int) -> None:
        """The disk has these bytes from byte ``at`` on: note the whole blocks in it that are wanted."""
        for start in range(0, len(piece) - self.size + 1, self.size):
            digest = hashlib.sha256(piece[start : start + self.size]).digest()
            name = int.from_bytes(digest[:_NAME], "little")
            if self._found.get(name) == -1:
                self._found[name] = at + start

    def places(self, chunk: int) -> list[int | None]:
        """Of each of a chunk's blocks: its byte on the disk, -1 when the disk has it nowhere, None when it is zeroes."""
        return [None if name == _ZEROES else self._found[name] for name in self.names(chunk)]


def runs(places: list[int | None], size: int) -> list[tuple[int, int, int]]:
    """What can be read at once: (first block, one behind the last, byte on the disk)."""
    found: list[tuple[int, int, int]] = []
    for number, at in enumerate(places):
        if at is None or at < 0:
            continue
        if found and found[-1][1] == number and found[-1][2] + (number - found[-1][0]) * size == at:
            found[-1] = (found[-1][0], number + 1, found[-1][2])
        else:
            found.append((number, number + 1, at))
    return found


def gaps(places: list[int | None], near: int) -> list[tuple[int, int]]:
    """What must be fetched: (first block, one behind the last). Gaps at most ``near`` blocks apart are one."""
    found: list[tuple[int, int]] = []
    for number, at in enumerate(places):
        if at != -1:
            continue
        if found and number - found[-1][1] <= near:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found
