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
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from certify.config import Images
from certify.errors import EngineUnavailable, ImageInvalid
from certify.images.candidate import ImageSource
from certify.images.files import MOST_READ, ImageFile, bounded
from certify.images.layers import paired, unpacked

_TYPES = {
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_MAX_ENTRIES = 2_000_000


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

    def __enter__(self) -> RootFilesystem:
        try:
            for number, (layer, diff_id) in enumerate(paired(self._source)):
                what = f"{self._source.candidate.reference}: layer {layer.digest}"
                file = self._stack.enter_context(tempfile.TemporaryFile())
                for piece in unpacked(self._source, layer, diff_id, self._limits):
                    file.write(piece)
                file.seek(0)
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
        linked = self.entries.get(info.linkname) if info.islnk() else None
        info = linked.info if linked else info
        mode = _TYPES.get(info.type, stat.S_IFREG) | stat.S_IMODE(info.mode)
        return ImageFile(f"/{name}", mode, info.uid, info.gid, info.size, info.linkname if info.issym() else "")

    def content(self, path: str) -> bytes | None:
        """A file's bytes, symbolic links followed inside the root; None when there is no such file."""
        data = self.read(path.lstrip("/"))
        return None if data is None else bounded(data.read(MOST_READ + 1), path)

    def read(self, name: str) -> BinaryIO | None:
        """A file's data, symbolic links followed inside the root; None when there is no such file."""
        for _ in range(8):
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
        self._keep_linked(set(mine))
        self.entries.update(mine)

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
                info.linkname = _normal(member.linkname, what)
            mine[name] = Entry(info, number, member)

    def _hide(self, name: str) -> None:
        self._keep_linked({name})
        self.entries.pop(name, None)
        self._hide_below(name)

    def _hide_below(self, name: str) -> None:
        below = {path for path in self.entries if path.startswith(f"{name}/" if name else "")}
        self._keep_linked(below)
        for path in below:
            self.entries.pop(path, None)

    def _keep_linked(self, going: set[str]) -> None:
        """A hard link whose other name goes becomes the file itself; further names then link to it."""
        heirs: dict[str, str] = {}
        for name, entry in list(self.entries.items()):
            target = entry.info.linkname
            if not entry.info.islnk() or target not in going or name in going:
                continue
            original = self.entries.get(target)
            if original is None:
                continue
            info = copy.copy(entry.info)
            if target in heirs:
                info.linkname = heirs[target]
            else:
                heirs[target] = name
                info.type, info.linkname, info.size = tarfile.REGTYPE, "", original.info.size
            self.entries[name] = Entry(info, original.layer, original.member)

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


def _open(file: BinaryIO, what: str) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=file, mode="r:")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ImageInvalid(
            f"{what}: no tar archive certify can read ({error})", "use plain, gzip or zstd layers"
        ) from None
