"""A raw disk cut into chunks of one size, each known by its digest: what is written to a machine's disk, and proven there.

A chunk that is all zeroes has no digest but is named as zero: it is never transferred. The manifest names the candidate it
was made of; its own digest (:attr:`Manifest.digest`) is what a signed plan names.

Beside it lies the block index: short names of the blocks that the chunks are made of. File systems lay files out anew with
every build, but on whole blocks; so a machine that has an older image finds most of a new one's blocks on its own disk.
Nothing is believed because of a block's name: a chunk that was put together has its digest, or is fetched.
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
BLOCK = 4096
#: Bytes of a block's name in the index: the beginning of its sha256. A block of zeroes is named by zeroes.
NAME = 8
ZERO = ""
_MOST_BLOCKS = 2**19  # what a machine can hold in memory, with room to spare; larger images get larger blocks


class Manifest(msgspec.Struct, frozen=True):
    """``chunks[i]`` is the hex sha256 of bytes ``i * chunk_size`` to ``min((i + 1) * chunk_size, size)``, or :data:`ZERO`.

    ``candidate`` is the digest of the file that the disk was made of, ``size`` the disk's in bytes, ``blocks`` the hex sha256
    of the block index: for every chunk that is not zero, in order, the names of its blocks of ``block_size`` bytes.
    """

    candidate: str
    size: int
    chunk_size: int
    chunks: list[str]
    block_size: int
    blocks: str

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


def make_manifest(disk: Path, candidate: str) -> tuple[Manifest, bytes]:
    """Read a raw disk once, holes not at all: its manifest and its block index. Raises ImageError for an empty one."""
    size = disk.stat().st_size
    if not size:
        raise ImageError(f"{disk.name}: an empty disk", "name the image that was built")
    zero = bytes(CHUNK)
    chunks = [ZERO] * -(-size // CHUNK)
    index = bytearray()
    with disk.open("rb") as file:
        with_data = list(_data_chunks(file, size))
        block_size = _block_size(len(with_data))
        for number in with_data:
            file.seek(number * CHUNK)
            piece = file.read(CHUNK)
            if piece != zero[: len(piece)]:
                chunks[number] = hashlib.sha256(piece).hexdigest()
                index += _names(piece, block_size)
    return Manifest(candidate, size, CHUNK, chunks, block_size, hashlib.sha256(index).hexdigest()), bytes(index)


def _block_size(chunks: int) -> int:
    size = BLOCK
    while chunks * (CHUNK // size) > _MOST_BLOCKS and size < CHUNK:
        size *= 2
    return size


def _names(piece: bytes, size: int) -> bytes:
    zero = bytes(size)
    blocks = (piece[at : at + size] for at in range(0, len(piece), size))
    return b"".join(bytes(NAME) if b == zero[: len(b)] else hashlib.sha256(b).digest()[:NAME] for b in blocks)


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
