"""Moves a GUID partition table to a larger disk and adds the seed's partition (UEFI specification 2.10, section 5.3).

Pure: bytes in, bytes out. The table is hostile until its checksums hold.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass

SECTOR = 512
_SIGNATURE = b"EFI PART"
_HEADER = struct.Struct("<8s4sIIIQQQQ16sQIII")
_LINUX_DATA = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4").bytes_le
_ALIGN = 2048  # sectors: 1 MiB


class BadTable(Exception):
    """The image's partition table cannot be used; the message says why."""


@dataclass(frozen=True)
class Moved:
    """``head`` replaces the first bytes of the disk, ``tail`` its last ones; the seed begins at byte ``seed_at``."""

    head: bytes
    tail: bytes
    seed_at: int


def move(head: bytes, disk_size: int, seed_size: int, seed_id: uuid.UUID) -> Moved:
    """``head`` is the beginning of the image's disk, entries included. Raises BadTable."""
    sectors = disk_size // SECTOR
    header, fields = _header(head)
    entries_at, count, size = fields[10] * SECTOR, fields[11], fields[12]
    table = bytearray(head[entries_at : entries_at + count * size])
    if len(table) != count * size or zlib.crc32(table) != fields[13]:
        raise BadTable("the checksum of its partition entries is wrong")
    entry_sectors = -(-len(table) // SECTOR)
    last_usable = sectors - entry_sectors - 2
    used = _used(table, size)
    end = max((last for _, last in used), default=fields[7])
    first = (last_usable + 1 - -(-seed_size // SECTOR)) // _ALIGN * _ALIGN
    if first <= end:
        need = end * SECTOR + seed_size + (entry_sectors + 1 + _ALIGN) * SECTOR
        raise BadTable(
            f"the disk has {disk_size} bytes; the image, its seed and the second partition table need {need}"
        )
    _add(table, size, _entry(size, seed_id, first, first + -(-seed_size // SECTOR) - 1))
    out = bytearray(head)
    _protective(out, sectors)
    out[entries_at : entries_at + len(table)] = table
    crc = zlib.crc32(table)
    primary = _sealed(header, fields, (1, sectors - 1, last_usable, fields[10]), crc)
    backup = _sealed(header, fields, (sectors - 1, 1, last_usable, sectors - 1 - entry_sectors), crc)
    out[SECTOR : 2 * SECTOR] = primary.ljust(SECTOR, b"\0")
    tail = bytes(table).ljust(entry_sectors * SECTOR, b"\0") + backup.ljust(SECTOR, b"\0")
    return Moved(bytes(out), tail, first * SECTOR)


def _header(head: bytes) -> tuple[bytes, tuple[int, ...]]:
    raw = head[SECTOR : 2 * SECTOR]
    if raw[:8] != _SIGNATURE:
        raise BadTable("it has no GUID partition table")
    fields = _HEADER.unpack_from(raw)
    length = fields[2]
    if not _HEADER.size <= length <= SECTOR:
        raise BadTable("the length of its partition table's header is wrong")
    blank = bytearray(raw[:length])
    blank[16:20] = bytes(4)
    if zlib.crc32(blank) != fields[3]:
        raise BadTable("the checksum of its partition table's header is wrong")
    if fields[12] % 128 or not 128 <= fields[12] <= 4096 or not 0 < fields[11] <= 1024 or fields[10] < 2:
        raise BadTable("its partition entries are described wrongly")
    return bytes(raw[:length]), fields


def _sealed(header: bytes, fields: tuple[int, ...], places: tuple[int, int, int, int], crc: int) -> bytes:
    """The header with its places changed (its own, the other's, last usable, entries) and its checksum made anew."""
    my, other, last, entries = places
    new = bytearray(header)
    _HEADER.pack_into(
        new, 0, *fields[:3], 0, fields[4], my, other, fields[7], last, fields[9], entries, fields[11], fields[12], crc
    )
    struct.pack_into("<I", new, 16, zlib.crc32(new))
    return bytes(new)


def _used(table: bytearray, size: int) -> list[tuple[int, int]]:
    """First and last sector of every partition."""
    spans = []
    for at in range(0, len(table), size):
        if any(table[at : at + 16]):
            spans.append(struct.unpack_from("<QQ", table, at + 32))
    return spans


def _add(table: bytearray, size: int, entry: bytes) -> None:
    for at in range(0, len(table), size):
        if not any(table[at : at + 16]):
            table[at : at + size] = entry
            return
    raise BadTable("its partition table has no room for one more partition")


def _entry(size: int, seed_id: uuid.UUID, first: int, last: int) -> bytes:
    name = "cidata".encode("utf-16-le").ljust(72, b"\0")
    return (_LINUX_DATA + seed_id.bytes_le + struct.pack("<QQQ", first, last, 0) + name).ljust(size, b"\0")


def _protective(head: bytearray, sectors: int) -> None:
    """The protective MBR's one partition covers the new disk (section 5.2.3)."""
    for at in range(446, 510, 16):
        if head[at + 4] == 0xEE:
            struct.pack_into("<I", head, at + 12, min(sectors - 1, 0xFFFFFFFF))
