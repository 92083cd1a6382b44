"""Tar archives that every reader reads alike, or are refused.

POSIX.1-2017, pax: ustar and pax headers, and GNU tar's. Where the form leaves room, readers differ: what one skips another
takes for a file, and an image would hold what nobody listed. So each header is looked at before any library reads it.
"""

from __future__ import annotations

import os
import re
from typing import BinaryIO

from certify.errors import ImageInvalid

_BLOCK = 512
_NOTHING = bytes(_BLOCK)
_MAGICS = (b"ustar\x0000", b"ustar  \x00")
_GNU = b"ustar  \x00"
_PREFIX = slice(345, 500)
#: mode, uid, gid, size, mtime, checksum, device numbers.
_NUMBERS = (slice(100, 108), slice(108, 116), slice(116, 124), slice(124, 136), slice(136, 148), slice(148, 156))
_DEVICE = (slice(329, 337), slice(337, 345))
_OCTAL = re.compile(rb" *[0-7]*[ \0]*")
_FILES = b"\x007"
#: Types whose data follows: files, and what says more of the file behind it.
_WITH_DATA = b"0" + _FILES + b"LKSxg"
_KNOWN = b"123456" + _WITH_DATA
_RECORDS = re.compile(
    r"path|linkpath|size|[ug]id|[ug]name|[mac]time|comment|hdrcharset|(SCHILY|LIBARCHIVE|GNU|RHT|MSWINDOWS)\..+"
)
_MOST_RECORDS = 1024 * 1024


def require_plain(file: BinaryIO, what: str) -> None:
    """Look at every header of an archive; the file is left at its beginning. Raises ImageInvalid for one that readers could
    read differently."""
    file.seek(0)
    try:
        size: int | None = None
        while (block := file.read(_BLOCK)) and block != _NOTHING:
            size = _next(file, block, size)
        _require_end(file)
    except (ValueError, UnicodeDecodeError) as error:
        raise ImageInvalid(
            f"{what}: a tar archive that not every reader reads alike ({error}, at byte {file.tell()})",
            "make it anew with another tool: ustar, pax or GNU tar",
        ) from None
    finally:
        file.seek(0)


def _next(file: BinaryIO, block: bytes, size: int | None) -> int | None:
    """Past one header and its data. ``size`` is what a pax header said of it; returns what this one says of the next."""
    _require_header(block)
    kind = block[156:157]
    length = size if size is not None and kind in _FILES + b"0" else _number(block[124:136])
    if kind in (b"g", b"x"):
        if length > _MOST_RECORDS:
            raise ValueError(f"a header of {length} bytes")
        found = _records(file.read(length), everywhere=kind == b"g")
        file.seek(-length % _BLOCK, os.SEEK_CUR)
        return int(found["size"]) if "size" in found and kind == b"x" else None
    if kind in _WITH_DATA:
        file.seek(length + -length % _BLOCK, os.SEEK_CUR)
    return size if kind in b"LK" else None


def _require_header(block: bytes) -> None:
    if len(block) < _BLOCK:
        raise ValueError("cut in a header")
    magic, kind = block[257:265], block[156:157]
    if magic not in _MAGICS or kind not in _KNOWN:
        raise ValueError(f"magic {magic!r}, type {kind!r}")
    if magic == _GNU and kind != b"S" and block[_PREFIX].strip(b"\0"):
        raise ValueError("a prefix that GNU tar does not write")
    for place in _NUMBERS:
        _number(block[place])
    for place in _DEVICE:
        if _number(block[place]) and kind not in b"34":
            raise ValueError("device numbers of no device")
    unsigned = sum(block) - sum(block[148:156]) + 8 * 32
    if _number(block[148:156]) != unsigned:
        raise ValueError("a wrong checksum")


def _number(field: bytes) -> int:
    """An octal number, or GNU tar's base 256."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else 0
    if not _OCTAL.fullmatch(field):
        raise ValueError(f"the number {field!r}")
    return int(field.strip(b" \0") or b"0", 8)


def _records(data: bytes, *, everywhere: bool) -> dict[str, str]:
    """pax records: ``length key=value``."""
    found: dict[str, str] = {}
    while data:
        length, space, rest = data.partition(b" ")
        if not space or not length.isdigit() or not len(length) + 2 < int(length) <= len(data):
            raise ValueError(f"the record {data[:20]!r}")
        record, data = rest[: int(length) - len(length) - 1], data[int(length) :]
        key, equals, value = record.removesuffix(b"\n").partition(b"=")
        name = key.decode("utf-8")
        if not equals or not record.endswith(b"\n") or not _RECORDS.fullmatch(name) or name in found:
            raise ValueError(f"the record {name[:40]!r}")
        if everywhere and name != "comment":
            raise ValueError(f"{name[:40]!r} for all files behind it")
        found[name] = value.decode("utf-8", "surrogateescape")
        if name in ("size", "uid", "gid") and not (found[name].isascii() and found[name].isdigit()):
            raise ValueError(f"the record {name}={found[name][:20]!r}")
    return found


def _require_end(file: BinaryIO) -> None:
    """Nothing but zeroes behind the first empty block."""
    while piece := file.read(1024 * 1024):
        if piece.strip(b"\0"):
            raise ValueError("data behind its end")
