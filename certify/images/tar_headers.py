"""Tar archives that every reader reads alike, or are refused.

POSIX.1-2017, pax: ustar and pax headers, and GNU tar's. Where the form leaves room, readers differ: what one skips another
takes for a file, and an image would hold what nobody listed. So each header is looked at before any library reads it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import BinaryIO

from certify.errors import ImageInvalid

_BLOCK = 512
_NOTHING = bytes(_BLOCK)
_MAGICS = (b"ustar\x0000", b"ustar  \x00")
_GNU = b"ustar  \x00"
_PREFIX = slice(345, 500)
#: mode, uid, gid, size, mtime, checksum, device numbers.
_NUMBERS = (slice(100, 108), slice(108, 116), slice(116, 124), slice(124, 136), slice(136, 148), slice(148, 156))
_DEVICES = slice(329, 345)
_OCTAL = re.compile(rb" *[0-7]*[ \0]*")
#: A file; what says more of the file behind it; everything else has no data.
_FILE, _SAYS_MORE = b"0\x00", b"LKxg"
_KNOWN = b"123456" + _FILE + _SAYS_MORE
_RECORDS = re.compile(
    r"path|linkpath|size|[ug]id|[ug]name|[mac]time|comment|hdrcharset|(SCHILY|LIBARCHIVE|RHT|MSWINDOWS)\..+"
)
_MOST_RECORDS = 1024 * 1024


def require_plain(file: BinaryIO, what: str) -> None:
    """Look at every header of an archive; the file is left at its beginning. Raises ImageInvalid for one that readers could
    read differently."""
    file.seek(0)
    try:
        said = _Said()
        while (block := file.read(_BLOCK)) and block != _NOTHING:
            said = _next(file, block, said)
        if said.kinds:
            raise ValueError("it ends where a file was announced")
        _require_end(file)
    except (ValueError, UnicodeDecodeError) as error:
        raise ImageInvalid(
            f"{what}: not a whole tar archive that every reader reads alike ({error}, at byte {file.tell()})",
            "copy it again, or make it anew: ustar, pax or GNU tar",
        ) from None
    finally:
        file.seek(0)


@dataclass(frozen=True)
class _Said:
    """What headers have said of the file that comes next: their types, and its size."""

    kinds: bytes = b""
    size: int | None = None


def _next(file: BinaryIO, block: bytes, said: _Said) -> _Said:
    """Past one header and its data; returns what is known then of the file behind it."""
    _require_header(block)
    kind, length = block[156:157], _number(block[124:136])
    if kind in _SAYS_MORE:
        return _more(file, kind, length, said)
    if kind == b"\0" and (said.kinds or block[:100].partition(b"\0")[0].endswith(b"/")):
        raise ValueError("an old header that could be a folder's")
    if kind in _FILE:
        length = length if said.size is None else said.size
        file.seek(length + -length % _BLOCK, os.SEEK_CUR)
    return _Said()


def _more(file: BinaryIO, kind: bytes, length: int, said: _Said) -> _Said:
    """A header about the file behind it, or about all of them."""
    if length > _MOST_RECORDS:
        raise ValueError(f"a header of {length} bytes")
    data = file.read(length)
    file.seek(-length % _BLOCK, os.SEEK_CUR)
    if kind == b"g":
        _records(data, everywhere=True)
        return said
    if kind in said.kinds or (said.kinds and b"x" in said.kinds + kind):
        raise ValueError("two headers about one file")
    if kind != b"x":
        if not data.rstrip(b"\0"):
            raise ValueError("an empty name")
        return _Said(said.kinds + kind, said.size)
    size = _records(data, everywhere=False).get("size")
    return _Said(said.kinds + kind, said.size if size is None else int(size))


def _require_header(block: bytes) -> None:
    if len(block) < _BLOCK:
        raise ValueError("cut in a header")
    magic, kind = block[257:265], block[156:157]
    if magic not in _MAGICS or kind not in _KNOWN:
        raise ValueError(f"magic {magic!r}, type {kind!r}")
    if magic == _GNU and block[_PREFIX].strip(b"\0"):
        raise ValueError("a prefix that GNU tar does not write")
    for place in _NUMBERS:
        _number(block[place])
    if block[_DEVICES].strip(b"0\0 ") and kind not in b"34":
        raise ValueError("device numbers of no device")
    if kind in b"34":
        _number(block[329:337])
        _number(block[337:345])
    unsigned = sum(block) - sum(block[148:156]) + 8 * 32
    if _number(block[148:156]) != unsigned:
        raise ValueError("a wrong checksum")


def _number(field: bytes) -> int:
    """An octal number, or GNU tar's base 256."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
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
        if not value and name in ("path", "linkpath", "size", "uid", "gid"):
            raise ValueError(f"an empty {name}")
        found[name] = value.decode("utf-8", "surrogateescape")
        if name in ("size", "uid", "gid") and not (found[name].isascii() and found[name].isdigit()):
            raise ValueError(f"the record {name}={found[name][:20]!r}")
    return found


def _require_end(file: BinaryIO) -> None:
    """Nothing but zeroes behind the first empty block."""
    while piece := file.read(1024 * 1024):
        if piece.strip(b"\0"):
            raise ValueError("data behind its end")
