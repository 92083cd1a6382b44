"""A disk's root filesystem as a tar archive: what the container platform imports.

Owners, modes, hard links, device nodes and extended attributes are kept; nothing is mounted, no root is needed.
"""

from __future__ import annotations

import io
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from certify_disk.contents import entry_name, root_partition, volume
from certify_disk.transport import DiskSource

_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE, stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE, stat.S_IFBLK: tarfile.BLKTYPE, stat.S_IFIFO: tarfile.FIFOTYPE,
}  # fmt: skip
_LEFT_OUT = (b"lost+found",)


def export_root(source: DiskSource, target: Path) -> None:
    """Write the root filesystem's archive to ``target``. Raises ImageInvalid."""
    partition = root_partition(source)
    with volume(source, partition) as found, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        first: dict[int, str] = {}
        for name, number, inode in _walk(found, found.root, ""):
            tar.addfile(*_member(name, number, inode, first))


def _walk(found: Any, directory: Any, below: str) -> Iterator[tuple[str, int, Any]]:
    for entry, _ in directory.opendir():
        name = entry_name(entry)
        if name in (b".", b"..") or (not below and name in _LEFT_OUT):
            continue
        path = f"{below}{name.decode('utf-8', 'surrogateescape')}"
        inode = found.inodes[entry.inode]
        yield path, int(entry.inode), inode
        if stat.S_ISDIR(inode.i_mode):
            yield from _walk(found, inode, f"{path}/")


def _member(name: str, number: int, inode: Any, first: dict[int, str]) -> tuple[tarfile.TarInfo, BinaryIO | None]:
    info = tarfile.TarInfo(name)
    info.mode, info.uid, info.gid = stat.S_IMODE(inode.i_mode), int(inode.i_uid), int(inode.i_gid)
    info.mtime = int(inode.i_mtime)
    info.type = _KINDS.get(stat.S_IFMT(inode.i_mode), tarfile.FIFOTYPE)
    info.pax_headers = {f"SCHILY.xattr.{key}": value.decode("latin-1") for key, value in _attributes(inode)}
    if number in first and not info.isdir():
        info.type, info.linkname = tarfile.LNKTYPE, first[number]
        return info, None
    if inode.i_links_count > 1:
        first[number] = name
    if info.issym():
        info.linkname = bytes(inode.readlink()).decode("utf-8", "surrogateescape")
    if not info.isreg():
        return info, None
    data = bytes(inode.open().read())
    info.size = len(data)
    return info, cast(BinaryIO, io.BytesIO(data))


def _attributes(inode: Any) -> list[tuple[str, bytes]]:
    return [(str(key), bytes(value)) for key, value in inode.xattrs]
