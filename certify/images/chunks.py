"""A raw disk cut into chunks of one size, each known by its digest: what is written to a machine's disk, and proven there.

A chunk that is all zeroes has no digest but is named as zero: it is never transferred. The manifest names the candidate it
was made of; its own digest (:attr:`Manifest.digest`) is what a signed plan names.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from certify.errors import ImageError

CHUNK = 1024 * 1024
ZERO = ""


class Manifest(msgspec.Struct, frozen=True):
    """``chunks[i]`` is the hex sha256 of bytes ``i * chunk_size`` to ``min((i + 1) * chunk_size, size)``, or :data:`ZERO`.

    ``candidate`` is the digest of the file that the disk was made of, ``size`` the disk's in bytes.
    """

    candidate: str
    size: int
    chunk_size: int
    chunks: list[str]

    def encoded(self) -> bytes:
        """The bytes that are served and digested."""
        return msgspec.json.encode(self, order="deterministic")

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of :meth:`encoded`."""
        return f"sha256:{hashlib.sha256(self.encoded()).hexdigest()}"

    @property
    def data_bytes(self) -> int:
        """How many bytes are not zero chunks: the most that a machine ever fetches."""
        last = len(self.chunks) - 1
        tail = self.size - last * self.chunk_size
        return sum(tail if i == last else self.chunk_size for i, chunk in enumerate(self.chunks) if chunk != ZERO)


def make_manifest(disk: Path, candidate: str) -> Manifest:
    """Read a raw disk once; holes are not read. Raises ImageError for an empty one."""
    size = disk.stat().st_size
    if not size:
        raise ImageError(f"{disk.name}: an empty disk", "name the image that was built")
    zero = bytes(CHUNK)
    chunks: list[str] = []
    with disk.open("rb") as file:
        data = _data_chunks(file, size)
        following = next(data, None)
        for index in range(-(-size // CHUNK)):
            if following != index:
                chunks.append(ZERO)
                continue
            following = next(data, None)
            file.seek(index * CHUNK)
            piece = file.read(CHUNK)
            chunks.append(ZERO if piece == zero[: len(piece)] else hashlib.sha256(piece).hexdigest())
    return Manifest(candidate, size, CHUNK, chunks)


def read_manifest(data: bytes) -> Manifest:
    """Parse what :meth:`Manifest.encoded` wrote. Raises ImageError when it is not one."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError as error:
        raise ImageError(f"the chunk manifest is damaged: {error}", "remove it; it is made again") from None
    if manifest.chunk_size <= 0 or len(manifest.chunks) != -(-manifest.size // manifest.chunk_size):
        raise ImageError("the chunk manifest is damaged: its count is wrong", "remove it; it is made again")
    return manifest


def _data_chunks(file: BinaryIO, size: int) -> Iterator[int]:
    """Indexes of the chunks that hold data on the file system, in order (lseek(2), SEEK_DATA)."""
    at, last = 0, -1
    while at < size:
        try:
            start = os.lseek(file.fileno(), at, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole up to the end
            return
        end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
        for index in range(max(last + 1, start // CHUNK), -(-end // CHUNK)):
            yield index
            last = index
        at = end
