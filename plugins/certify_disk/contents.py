"""What is on a disk: partition table, filesystems, how it boots, which system. Read, never mounted.

GPT: UEFI 2.10 section 5.3; MBR: the four primary entries at 446. Superblocks are known by their magic numbers.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from certify.errors import ImageInvalid, NotReadable
from certify.images.candidate import Candidate
from certify.locks import locked
from certify.nodes.facts import parse_os_release
from certify_disk.confined import qemu_img

_SECTOR = 512
_MAX_ENTRIES = 1024
_GPT_NAMES = {
    "c12a7328-f81f-11d2-ba4b-00a0c93ec93b": "EFI system",
    "21686148-6449-6e6f-744e-656564454649": "BIOS boot",
    "4f68bce3-e8cd-4db1-96e7-fbcaf984b709": "Linux root (x86-64)",
    "b921b045-1df0-41c3-af44-4c6f280d3fae": "Linux root (ARM64)",
    "0fc63daf-8483-4772-8e79-3d69d8477de4": "Linux filesystem",
    "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f": "Linux swap",
    "e6d6d379-f507-44c2-a23c-238f2a3df928": "Linux LVM",
    "bc13c2ff-59e6-4262-a352-b275fd6f7172": "Linux extended boot",
}
_MAGICS = (
    (0x438, b"\x53\xef", "ext4"), (0, b"XFSB", "xfs"), (0x10040, b"_BHRfS_M", "btrfs"), (0, b"hsqs", "squashfs"),
    (1024, b"\xe2\xe1\xf5\xe0", "erofs"), (54, b"FAT", "vfat"), (82, b"FAT32", "vfat"), (4086, b"SWAPSPACE2", "swap"),
    (512, b"LABELONE", "LVM"), (0, b"LUKS\xba\xbe", "LUKS"), (32769, b"CD001", "iso9660"),
)  # fmt: skip


class Disk(Protocol):
    """A frozen disk: a file in one format, and the candidate it is. ``virtual_size`` in bytes."""

    candidate: Candidate
    path: Path
    format: str
    virtual_size: int


@dataclass(frozen=True)
class Partition:
    """One partition, or the whole disk where there is no table (``number`` 0). ``start`` and ``size`` in bytes."""

    number: int
    type: str
    name: str
    start: int
    size: int
    filesystem: str


@dataclass(frozen=True)
class Contents:
    """``table`` is gpt, mbr or none; ``firmware`` what the disk is made to boot with; ``os_release`` may be empty."""

    table: str
    partitions: tuple[Partition, ...]
    firmware: tuple[str, ...]
    os_release: dict[str, str]


def raw_view(source: Disk) -> Path:
    """The disk's bytes as one flat, sparse, read-only file: itself, or a conversion kept beside it."""
    if source.format == "raw":
        return source.path
    flat = source.path.with_name("flat")
    with locked(source.path.with_name("flat.lock")):
        if not flat.exists():
            partial = flat.with_suffix(".partial")
            how = ("convert", "-q", "-f", source.format, "-O", "raw", str(source.path), str(partial))
            qemu_img(*how, reads=[source.path], writes=partial)
            partial.chmod(0o400)
            partial.rename(flat)
    return flat


def examine(source: Disk) -> Contents:
    """Everything ``certify inspect`` says of a disk. Raises ImageInvalid for a table that contradicts itself."""
    with raw_view(source).open("rb") as disk:
        table, partitions = _partitions(disk, source.virtual_size)
        firmware = _firmware(disk, table, partitions)
    root = next((p for p in _ext4_first(partitions)), None)
    release = (
        b""
        if root is None
        else read_file(source, root, "/etc/os-release") or read_file(source, root, "/usr/lib/os-release")
    )
    return Contents(table, partitions, firmware, parse_os_release(release.decode("utf-8", "replace")))


def boots_with(source: Disk) -> tuple[str, ...]:
    """The firmware a disk is made for: ``bios``, ``uefi``, both, or neither."""
    with raw_view(source).open("rb") as disk:
        table, partitions = _partitions(disk, source.virtual_size)
        return _firmware(disk, table, partitions)


def root_partition(source: Disk) -> Partition:
    """The partition with the root filesystem: an ext4 one that holds /etc. Raises ImageInvalid when there is none."""
    with raw_view(source).open("rb") as disk:
        _, partitions = _partitions(disk, source.virtual_size)
    for partition in _ext4_first(partitions):
        with volume(source, partition) as found:
            names = {entry_name(entry) for entry, _ in found.root.opendir()}
        if {b"etc", b"usr"} <= names:
            return partition
    kinds = ", ".join(p.filesystem or "unknown" for p in partitions) or "nothing"
    raise NotReadable(
        f"{source.candidate.reference}: no ext4 root filesystem on it (found: {kinds})",
        "only ext2/3/4 can be read without booting",
    )


@contextmanager
def volume(source: Disk, partition: Partition) -> Iterator[Any]:
    """An ext2/3/4 filesystem, opened for reading. Raises ImageInvalid for whatever a damaged one makes the reader say."""
    import ext4

    with raw_view(source).open("rb") as disk:
        try:
            yield ext4.Volume(disk, offset=partition.start)
        except ImageInvalid:
            raise
        except Exception as error:  # noqa: BLE001 - the reader's errors on hostile bytes are of any kind
            where = f"{source.candidate.reference}: partition {partition.number}"
            raise ImageInvalid(
                f"{where}: its filesystem is damaged ({type(error).__name__}: {error})"[:300],
                "run e2fsck on the original",
            ) from None


def entry_name(entry: Any) -> bytes:
    """A directory entry's name; what lies behind its length is left from older entries."""
    return bytes(entry.name)[: entry.name_len]


def read_file(source: Disk, partition: Partition, path: str, cap: int = 65536) -> bytes:
    """The beginning of a file, or nothing when there is none. Symbolic links are followed inside the filesystem."""
    with volume(source, partition) as found:
        for _ in range(8):
            try:
                inode = found.inode_at(path)
            except FileNotFoundError:
                return b""
            if not hasattr(inode, "readlink"):
                return bytes(inode.open().read(cap))
            target = bytes(inode.readlink()).decode("utf-8", "replace")
            path = target if target.startswith("/") else f"{path.rpartition('/')[0]}/{target}"
            path = str(Path(path).as_posix()).replace("/etc/../", "/")
    return b""


def _ext4_first(partitions: tuple[Partition, ...]) -> list[Partition]:
    """ext4 partitions, those typed as a root first, then the largest."""
    return sorted((p for p in partitions if p.filesystem == "ext4"), key=lambda p: ("root" not in p.type, -p.size))


def _partitions(disk: BinaryIO, size: int) -> tuple[str, tuple[Partition, ...]]:
    head = _at(disk, 0, 2 * _SECTOR)
    if head[_SECTOR : _SECTOR + 8] == b"EFI PART":
        return "gpt", tuple(_gpt(disk, head[_SECTOR:], size))
    whole = _filesystem(disk, 0)
    if head[510:512] == b"\x55\xaa" and not whole:
        return "mbr", tuple(_mbr(disk, head))
    return "none", (Partition(0, "whole disk", "", 0, size, whole),)


def _gpt(disk: BinaryIO, header: bytes, size: int) -> Iterator[Partition]:
    lba, count, length = struct.unpack_from("<QII", header, 72)
    if count > _MAX_ENTRIES or not 128 <= length <= 4096:
        raise ImageInvalid(f"its partition table claims {count} entries of {length} bytes", "do not use this file")
    for number in range(count):
        entry = _at(disk, lba * _SECTOR + number * length, length)
        if len(entry) < 128 or entry[:16] == bytes(16):
            continue
        first, last = struct.unpack_from("<QQ", entry, 32)
        if last < first or (last + 1) * _SECTOR > size:
            raise ImageInvalid(
                f"its partition {number + 1} ends behind the disk", "it is cut or damaged; copy it again"
            )
        kind = str(uuid.UUID(bytes_le=entry[:16]))
        name = entry[56:128].decode("utf-16-le", "replace").rstrip("\0")
        yield Partition(
            number + 1,
            _GPT_NAMES.get(kind, kind),
            name,
            first * _SECTOR,
            (last + 1 - first) * _SECTOR,
            _filesystem(disk, first * _SECTOR),
        )


def _mbr(disk: BinaryIO, head: bytes) -> Iterator[Partition]:
    for number in range(4):
        entry = head[446 + 16 * number : 462 + 16 * number]
        start, count = struct.unpack_from("<II", entry, 8)
        if entry[4] and count:
            kind = (
                "EFI system" if entry[4] == 0xEF else f"type {entry[4]:#04x}" + (", active" if entry[0] == 0x80 else "")
            )
            yield Partition(number + 1, kind, "", start * _SECTOR, count * _SECTOR, _filesystem(disk, start * _SECTOR))


def _firmware(disk: BinaryIO, table: str, partitions: tuple[Partition, ...]) -> tuple[str, ...]:
    code = _at(disk, 0, 440)
    types = {partition.type for partition in partitions}
    found = []
    if table != "none" and any(code) and (table == "mbr" or "BIOS boot" in types):
        found.append("bios")
    if "EFI system" in types:
        found.append("uefi")
    return tuple(found)


def _filesystem(disk: BinaryIO, start: int) -> str:
    return next((name for at, magic, name in _MAGICS if _at(disk, start + at, len(magic)) == magic), "")


def _at(disk: BinaryIO, offset: int, count: int) -> bytes:
    disk.seek(offset)
    return disk.read(count)
