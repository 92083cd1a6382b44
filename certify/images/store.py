"""The store: frozen, read-only copies of disk images, by the digest of the file as it was given.

A file is read once. What is hashed is what is kept, so the bytes that boot are the bytes that were named, whatever
happens to the original afterwards. A file that has not been touched since (device, inode, size, times) is not read again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from certify.errors import ImageInvalid, ImageNotFound
from certify.files import write_whole
from certify.images.candidate import hex_of

PIECE = 1024 * 1024
_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file, where the filesystem can


@dataclass(frozen=True)
class Frozen:
    """One frozen image: ``path`` is the disk (unpacked), ``digest`` that of the file as given, ``info`` what was found."""

    path: Path
    digest: str
    info: dict[str, Any]


class Store:
    """A directory of frozen images. Safe to share between processes."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()

    def folder(self, name: str) -> Path:
        """A directory of the store, made when missing, for this user only."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def freeze(self, path: Path, unpack: Callable[[Path, Path], dict[str, Any]]) -> Frozen:
        """The frozen copy of ``path``. ``unpack`` is called once per file: it turns our copy of the file as given into
        the disk (moving it, where nothing is packed) and says what it is.

        Raises ImageNotFound, or what ``unpack`` raises; nothing is kept then.
        """
        try:
            with path.open("rb") as file:
                known = self._known(os.fstat(file.fileno()))
                return known or self._take(file, path, unpack)
        except OSError as error:
            raise ImageNotFound(f"{path}: {error.strerror}", "check the path") from None

    def frozen(self, digest: str) -> Frozen | None:
        """The frozen image of a digest, if the store has it whole."""
        folder = self.root / "images" / hex_of(digest)
        try:
            info = msgspec.json.decode((folder / "info.json").read_bytes(), type=dict[str, Any])
            now = (folder / "disk").stat()
        except (OSError, msgspec.DecodeError):
            return None
        if info.get("stored") != [now.st_size, now.st_mtime_ns]:
            return None
        return Frozen(folder / "disk", digest, info)

    def _known(self, seen: os.stat_result) -> Frozen | None:
        note = self._note(seen)
        return self.frozen(note.read_text()) if note.exists() else None

    def _note(self, seen: os.stat_result) -> Path:
        what = f"{seen.st_dev} {seen.st_ino} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}"
        return self.folder("seen") / hashlib.sha256(what.encode()).hexdigest()

    def _take(self, file: BinaryIO, path: Path, unpack: Callable[[Path, Path], dict[str, Any]]) -> Frozen:
        work = self.folder("incoming") / secrets.token_hex(8)
        work.mkdir(mode=0o700)
        try:
            before = os.fstat(file.fileno())
            digest = _copy(file, work / "given")
            after = os.fstat(file.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise ImageInvalid(f"{path} changed while it was read", "wait until it is written, then start again")
            found = self.frozen(digest) or self._keep(work, digest, unpack(work / "given", work / "disk"))
            write_whole(self._note(after), digest.encode())
            return found
        finally:
            for left in work.iterdir() if work.exists() else ():
                left.unlink()
            if work.exists():
                work.rmdir()

    def _keep(self, work: Path, digest: str, info: dict[str, Any]) -> Frozen:
        disk = work / "disk"
        disk.chmod(0o400)
        now = disk.stat()
        info = {**info, "stored": [now.st_size, now.st_mtime_ns]}
        folder = self.folder(f"images/{hex_of(digest)}")
        disk.replace(folder / "disk")
        write_whole(folder / "info.json", msgspec.json.encode(info))
        return Frozen(folder / "disk", digest, info)


def _copy(source: BinaryIO, target: Path) -> str:
    """Copy, sharing blocks where the filesystem can, else leaving holes for zeroes. Returns the digest of the copy."""
    hasher = hashlib.sha256()
    with target.open("w+b") as copy:
        try:
            fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
            source = copy
        except OSError:
            copy.truncate(os.fstat(source.fileno()).st_size)
        while piece := source.read(PIECE):
            hasher.update(piece)
            if source is not copy:
                write_sparse(copy, piece)
    return "sha256:" + hasher.hexdigest()


def write_sparse(file: BinaryIO, piece: bytes) -> None:
    """Write, or skip a piece of zeroes: the file must be truncated to its full size at the end."""
    if piece.count(0) == len(piece):
        file.seek(len(piece), os.SEEK_CUR)
    else:
        file.write(piece)
