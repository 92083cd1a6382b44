"""A disk's root filesystem, read on this host: implements :class:`certify.images.files.ImageFiles`."""

from __future__ import annotations

import posixpath
import stat
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from certify.errors import ImageInvalid
from certify.images.files import MOST_READ, ImageFile
from certify_disk.contents import Disk, entry_name, root_partition, volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOST = 2_000_000
_DEEPEST = 200
_LONGEST = 4096  # a path's, in bytes


class DiskFiles:
    """An ext2/3/4 root. Raises ImageInvalid when there is none, or a damaged one."""

    def __init__(self, source: Disk) -> None:
        self._what = str(source.candidate.reference)
        self._numbers: dict[str, int] = {}
        with ExitStack() as stack:  # what a damaged filesystem makes its reader say, the volume names
            self._volume: Any = stack.enter_context(volume(source, root_partition(source)))
            self._listed = tuple(self._walk(self._volume, self._volume.root, "", 0))
            self._stack = stack.pop_all()
        self._by_path = {file.path: file for file in self._listed}

    def listed(self) -> tuple[ImageFile, ...]:
        return self._listed

    def content(self, path: str) -> bytes | None:
        for _ in range(8):
            file = self._by_path.get(path)
            if file is None or stat.S_ISDIR(file.mode):
                return None
            if not stat.S_ISLNK(file.mode):
                if file.size > MOST_READ:
                    raise ImageInvalid(
                        f"{path} is larger than {MOST_READ} bytes", "a file that is read as text never is"
                    )
                return self._data(path) if stat.S_ISREG(file.mode) else None
            folder = path.rpartition("/")[0]
            path = file.link if file.link.startswith("/") else f"{folder}/{file.link}"
            path = posixpath.normpath(path)
        return None

    def _data(self, path: str) -> bytes:
        try:
            return bytes(self._volume.inodes[self._numbers[path]].open().read())
        except Exception as error:  # noqa: BLE001 - the reader's errors on hostile bytes are of any kind
            raise ImageInvalid(
                f"{self._what}: {path} is damaged ({type(error).__name__}: {error})"[:300], "run e2fsck on the original"
            ) from None

    def close(self) -> None:
        self._stack.close()

    def buried(self) -> Iterator[tuple[ImageFile, Callable[[], bytes]]]:
        """None: a disk has one layer. What its free blocks hold is not looked at."""
        return iter(())

    def _walk(self, found: Any, directory: Any, below: str, depth: int) -> Iterator[ImageFile]:
        if depth > _DEEPEST:
            raise ImageInvalid(f"{self._what}: folders within folders without end", "run e2fsck on the original")
        for entry, _ in directory.opendir():
            name = entry_name(entry)
            if name in (b".", b".."):
                continue
            path = f"{below}/{name.decode('utf-8', 'surrogateescape')}"
            if len(self._numbers) > _MOST:
                raise ImageInvalid(f"{self._what}: more than {_MOST} files", "no real image has that many")
            inode = found.inodes[entry.inode]
            self._numbers[path] = int(entry.inode)
            mode = int(inode.i_mode)
            if stat.S_ISLNK(mode) and int(inode.i_size) > _LONGEST:
                raise ImageInvalid(f"{self._what}: {path} leads to a name of {inode.i_size} bytes", "run e2fsck on it")
            link = bytes(inode.readlink()).decode("utf-8", "surrogateescape") if stat.S_ISLNK(mode) else ""
            yield ImageFile(path, mode, int(inode.i_uid), int(inode.i_gid), int(inode.i_size), link)
            if stat.S_ISDIR(mode):
                yield from self._walk(found, inode, path, depth + 1)
