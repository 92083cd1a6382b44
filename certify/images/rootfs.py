"""The root filesystem that an OCI image's layers make, as one tar stream: no root, nothing extracted.

Implements OCI image-spec 1.1, layer.md: whiteouts and opaque directories, later layers over earlier ones, hard links kept
(also where only one of their names is replaced), owners, modes and extended attributes (PAX records) as they are. Layers
are hostile: names that leave the root and files below something that is no directory are refused.
"""

from __future__ import annotations

import copy
import posixpath
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from certify.config import Images
from certify.errors import EngineUnavailable, ImageInvalid
from certify.images.candidate import ImageSource
from certify.images.files import MOST_BURIED, MOST_READ, ImageFile, ImageFiles, bounded
from certify.images.layers import paired, unpacked
from certify.images.tar_headers import require_plain
from certify.models import size_bytes

_TYPES = {
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_MAX_ENTRIES = 2_000_000
_SMALL = 1024 * 1024 * 1024  # what an image may always unpack to, whatever the ratio
#: Where a file's capabilities are in a pax header.
_CAPABILITY = "SCHILY.xattr.security.capability"


@dataclass(frozen=True)
class Entry:
    """One file of the result: its tar header under its final name, and the layer and member its data lies in."""

    info: tarfile.TarInfo
    layer: int
    member: tarfile.TarInfo


class RootFilesystem:
    """The merged layers. Use as a context manager; the layers lie in unlinked files meanwhile."""

    def __init__(self, source: ImageSource, limits: Images | None = None) -> None:
        self._source = source
        self._limits = limits or Images()
        self._stack = ExitStack()
        self._layers: list[tarfile.TarFile] = []
        self.entries: dict[str, Entry] = {}
        self._below: dict[str, set[str]] = {}
        self._links: dict[str, set[str]] = {}
        self._gone: list[tuple[str, Entry]] = []

    def __enter__(self) -> RootFilesystem:
        try:
            stored = sum(layer.size for layer in self._source.layers())
            most = min(size_bytes(self._limits.max_size), max(_SMALL, stored * self._limits.max_ratio))
            for number, (layer, diff_id) in enumerate(paired(self._source)):
                what = f"{self._source.candidate.reference}: layer {layer.digest}"
                file = self._stack.enter_context(tempfile.TemporaryFile())
                for piece in unpacked(self._source, layer, diff_id, self._limits):
                    file.write(piece)
                    most -= len(piece)
                    if most < 0:
                        raise _too_large(what)
                require_plain(file, what)
                self._layers.append(self._stack.enter_context(_open(file, what)))
                self._apply(number, what)
            self._check_parents()
        except OSError as error:
            self._stack.close()
            raise EngineUnavailable(
                f"cannot unpack {self._source.candidate.reference} on this host: {error.strerror or error}",
                "make room in the temporary folder (TMPDIR)",
            ) from None
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def size(self) -> int:
        """Bytes of all files together, each with its inode and rounded up to blocks."""
        return sum(4096 + -(-entry.info.size // 4096) * 4096 for entry in self.entries.values())

    def write(self, target: Path) -> None:
        """Write the whole tree as a PAX archive, parents before children and link targets before links."""
        with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
            for name in sorted(self.entries, key=lambda n: (self.entries[n].info.islnk(), n)):
                entry = self.entries[name]
                tar.addfile(entry.info, self._data(entry) if entry.info.isreg() else None)

    def close(self) -> None:
        """Forget the layers. Safe to repeat."""
        self._stack.close()

    def listed(self) -> tuple[ImageFile, ...]:
        """Every file of the result, by path."""
        return tuple(self._listed(name, entry) for name, entry in sorted(self.entries.items()))

    def _listed(self, name: str, entry: Entry) -> ImageFile:
        info = entry.info
        linked = self._linked(info)
        info = linked.info if linked else info
        mode = _TYPES.get(info.type, stat.S_IFREG) | stat.S_IMODE(info.mode)
        link, capable = info.linkname if info.issym() else "", _CAPABILITY in info.pax_headers
        return ImageFile(f"/{name}", mode, info.uid, info.gid, info.size, link, capable)

    def buried(self) -> Iterator[tuple[ImageFile, Callable[[], bytes]]]:
        """What later layers replaced or removed, each with a way to read it."""
        for name, entry in self._gone:
            if entry.info.isreg() and 0 < entry.info.size <= MOST_BURIED:
                yield self._listed(name, entry), partial(self._whole, entry)

    def _whole(self, entry: Entry) -> bytes:
        data = self._data(entry)
        return data.read() if data else b""

    def _linked(self, info: tarfile.TarInfo) -> Entry | None:
        """The file that a hard link, or a hard link to one, is."""
        entry: Entry | None = None
        for _ in range(64):
            if not info.islnk():
                break
            entry = self.entries.get(info.linkname)
            if entry is None or entry.info is info:
                return None
            info = entry.info
        return entry

    def content(self, path: str) -> bytes | None:
        """A file's bytes, symbolic links followed inside the root; None when there is no such file."""
        data = self.read(path.lstrip("/"))
        return None if data is None else bounded(data.read(MOST_READ + 1), path)

    def read(self, name: str) -> BinaryIO | None:
        """A file's data, symbolic links followed inside the root; None when there is no such file."""
        for _ in range(64):
            entry = self.entries.get(name)
            if entry is None:
                return None
            if entry.info.islnk() and entry.info.linkname != name:
                name = entry.info.linkname
                continue
            if not entry.info.issym():
                return self._data(entry)
            name = posixpath.normpath(str(PurePosixPath("/", name).parent / entry.info.linkname)).lstrip("/")
        return None

    def _data(self, entry: Entry) -> BinaryIO | None:
        if entry.member.islnk():
            return None  # it leads nowhere in its own layer
        return cast("BinaryIO | None", self._layers[entry.layer].extractfile(entry.member))

    def _apply(self, number: int, what: str) -> None:
        """Put one layer over what is there."""
        mine: dict[str, Entry] = {}
        try:
            for count, member in enumerate(self._layers[number]):
                if count > _MAX_ENTRIES:
                    raise ImageInvalid(f"{what}: more than {_MAX_ENTRIES} entries", "no real image has that many")
                self._take(member, number, mine, what)
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            raise ImageInvalid(f"{what}: not a whole tar archive ({error})", "build or copy the image again") from None
        self._keep_linked(mine.keys() & self.entries.keys())
        for name, entry in mine.items():
            self._forget(name)
            self._put(name, entry)

    def _take(self, member: tarfile.TarInfo, number: int, mine: dict[str, Entry], what: str) -> None:
        name = _normal(member.name, what)
        head, base = str(PurePosixPath(name).parent), PurePosixPath(name).name
        if base == _OPAQUE:
            self._hide_below("" if head == "." else head)
        elif base.startswith(_WHITEOUT):
            hidden = base.removeprefix(_WHITEOUT)
            self._hide(hidden if head == "." else f"{head}/{hidden}")
        elif name != ".":
            if not member.isdir():
                self._hide_below(name)
            info = copy.copy(member)
            info.name = name
            if info.islnk():
                info.linkname = self._first_name(_normal(member.linkname, what), mine)
            mine[name] = Entry(info, number, member)

    def _first_name(self, name: str, mine: dict[str, Entry]) -> str:
        """The name that a link to ``name`` leads to in the end: links to links would be other files when one is replaced."""
        for _ in range(64):
            entry = mine.get(name) or self.entries.get(name)
            if entry is None or not entry.info.islnk():
                break
            name = entry.info.linkname
        return name

    def _hide(self, name: str) -> None:
        self._keep_linked({name})
        self._forget(name)
        self._hide_below(name)

    def _hide_below(self, name: str) -> None:
        below, folders = set[str](), [name]
        while folders:
            inside = self._below.get(folders.pop(), set())
            below |= inside
            folders += [path for path in inside if path in self._below]
        self._keep_linked(below)
        for path in below:
            self._forget(path)

    def _put(self, name: str, entry: Entry) -> None:
        """One file more, under its folders, whether or not a layer has them."""
        self.entries[name] = entry
        if entry.info.islnk():
            self._links.setdefault(entry.info.linkname, set()).add(name)
        while name:
            folder = name.rpartition("/")[0]
            inside = self._below.setdefault(folder, set())
            if name in inside:
                break
            inside.add(name)
            name = folder

    def _forget(self, name: str) -> None:
        """One file less; its folders stay known, which hides nothing more."""
        entry = self.entries.pop(name, None)
        if entry is not None:
            self._gone.append((name, entry))
            if entry.info.islnk():
                self._links.get(entry.info.linkname, set()).discard(name)

    def _keep_linked(self, going: set[str]) -> None:
        """A hard link whose other name goes becomes the file itself; further names then link to it."""
        for target in sorted(going & self._links.keys()):
            original = self.entries.get(target)
            names = sorted(self._links[target] - going)
            if original is None or not names:
                continue
            for name in names:
                info = copy.copy(self.entries[name].info)
                if name == names[0]:
                    info.type, info.linkname, info.size = original.info.type, original.info.linkname, original.info.size
                else:
                    info.linkname = names[0]
                self._links[target].discard(name)
                self._put(name, Entry(info, original.layer, original.member))

    def _check_parents(self) -> None:
        what = self._source.candidate.reference
        for name, entry in self.entries.items():
            parent = self.entries.get(str(PurePosixPath(name).parent))
            if parent is not None and not parent.info.isdir():
                raise ImageInvalid(
                    f"{what}: {name!r} lies below something that is no directory", "do not use this image"
                )
            if entry.info.islnk() and entry.info.linkname not in self.entries:
                raise ImageInvalid(f"{what}: the hard link {name!r} leads nowhere", "rebuild the image")


def _normal(name: str, what: str) -> str:
    path = PurePosixPath(name.lstrip("/"))
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            raise ImageInvalid(f"{what}: the name {name!r} leaves the root", "do not use this image")
        parts.append(part)
    return "/".join(parts) or "."


def _too_large(what: str) -> ImageInvalid:
    return ImageInvalid(
        f"{what}: it and the layers below unpack to more than an image may",
        "no real image does; images.max_size and images.max_ratio in certify.yaml allow more",
    )


def _open(file: BinaryIO, what: str) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=file, mode="r:")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ImageInvalid(
            f"{what}: no tar archive certify can read ({error})", "use plain, gzip or zstd layers"
        ) from None


class LayeredSource(ImageSource):
    """Base of the sources of OCI images: their files are what their layers make."""

    def files(self, limits: Images) -> ImageFiles:
        """As :meth:`certify.images.candidate.ImageSource.files`."""
        return RootFilesystem(self, limits).__enter__()
