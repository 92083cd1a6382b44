"""The files of an image and of its node, listed once and shared by every check that looks at them.

What is *from the image* is read where the image lies, on this host: what its boot mounts over, hides or removes is in it all
the same. What the node shows beyond that was made by booting. Only where an image cannot be read without booting, its node
tells both.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import translate
from functools import cached_property

from certify.errors import CommandTimeout, OutputLimit, Unanswered
from certify.images.files import ImageFile, ImageFiles
from certify.nodes.node import Node
from certify.nodes.platform import CLOCK_JUMP
from certify.nodes.shell import Result

_LIST = "LC_ALL=C find / -xdev ! -path '/.certify*' ! -path '/proc/*' -exec stat -c '%f|%u|%g|%Z|%s|%n' {} +"
_STARTED = "cat /proc/1/stat; grep btime /proc/stat; getconf CLK_TCK 2>/dev/null || echo 100"
_LARGEST = 4 * 1024 * 1024  # larger files are no configuration
_BINARY = 8192  # a NUL byte in the first so many makes a file binary, as for grep -I
#: What a tool says of a file that went away while it looked: nothing is missing from its answer.
_GONE = re.compile(r"^[^:]+: (?:cannot [^:]*?)?['\"‘]?/[^:]*: No such file or directory$")
#: Behind the path of a file that a later layer removed or replaced: nothing shows it, and whoever has the image can read it.
BURIED = " (in a lower layer)"


@dataclass(frozen=True)
class File:
    """One directory entry. ``mode`` is st_mode; ``from_image`` is false for what booting or a check has written."""

    path: str
    mode: int
    uid: int
    gid: int
    size: int
    from_image: bool
    capabilities: bool | None = None

    @property
    def is_regular(self) -> bool:
        """A plain file."""
        return stat.S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        """A directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """A symbolic link, whose own permissions mean nothing."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_device(self) -> bool:
        """A block or character device."""
        return stat.S_ISBLK(self.mode) or stat.S_ISCHR(self.mode)


@dataclass(frozen=True)
class Scan:
    """Every file of the image and of its node; ``odd`` are lines that are no entry: names with a newline in them.

    ``files`` holds a file of the image twice when booting has changed its owner or permissions: as it is in the image, and
    as it was found (not ``from_image``).
    """

    node: Node
    image: ImageFiles | None
    files: tuple[File, ...]
    odd: tuple[str, ...]

    def below(self, *folders: str) -> list[File]:
        """Files of the image (not of its boot) below folders, themselves not counted."""
        prefixes = tuple(folder.rstrip("/") + "/" for folder in folders)
        return [file for file in self.files if file.from_image and file.path.startswith(prefixes)]

    def named(self, *patterns: str) -> list[str]:
        """Paths of the image's files whose path fits one of the shell patterns."""
        wanted = _compiled(patterns)
        return [file.path for file in self.files if file.from_image and wanted.match(file.path)]

    def contents(self, *patterns: str) -> list[tuple[str, bytes]]:
        """Path and content of the image's files whose path fits one of the shell patterns, buried ones included."""
        wanted = _compiled(patterns)
        buried = [(file.path + BURIED, read()) for file, read in self._buried if wanted.match(file.path)]
        return [(path, self.read(path)) for path in self.named(*patterns)] + buried

    def read(self, path: str) -> bytes:
        """A file's bytes as the image has them, or as the node has them where it cannot be read without booting."""
        kept = self.image.content(path) if self.image is not None else None
        return self.node.read(path) if kept is None else kept

    def containing(self, pattern: str, folders: Iterable[str], *, names: Iterable[str] = ("*",)) -> list[str]:
        """The image's text files below folders that contain a regular expression (``^`` and ``$`` match at lines)."""
        wanted, found = re.compile(pattern.encode(), re.MULTILINE), []
        fits = _compiled(tuple(f"*/{name}" for name in names))
        places = tuple(folders)
        for file in self._texts:
            inside = any(file.path == place or file.path.startswith(f"{place}/") for place in places)
            if inside and fits.match(file.path) and wanted.search(self._text(file.path)):
                found.append(file.path)
        for buried, read in self._buried:
            inside = any(buried.path == place or buried.path.startswith(f"{place}/") for place in places)
            if inside and fits.match(buried.path) and wanted.search(_text_of(read())):
                found.append(buried.path + BURIED)
        return found

    @cached_property
    def _buried(self) -> tuple[tuple[ImageFile, Callable[[], bytes]], ...]:
        return tuple(self.image.buried()) if self.image is not None else ()

    @cached_property
    def _texts(self) -> list[File]:
        return [file for file in self.files if file.from_image and file.is_regular and 0 < file.size <= _LARGEST]

    def _text(self, path: str) -> bytes:
        return _text_of(self.read(path))


def _text_of(data: bytes) -> bytes:
    return b"" if b"\0" in data[:_BINARY] else data


def scan(node: Node, image: ImageFiles | None) -> Scan:
    """The scan of a node and its image, made when first asked for. Raises Unanswered when the node could not see it all."""
    name = "scan" if image is not None else "scan of the node alone"
    known = node.extras.get(name)
    if not isinstance(known, Scan):
        known = node.extras[name] = _scan(node, image)
    return known


def _scan(node: Node, image: ImageFiles | None) -> Scan:
    try:
        listed, started = node.run_many([_LIST, _STARTED], timeout=120)
    except (OutputLimit, CommandTimeout) as error:
        raise Unanswered(f"the node's files cannot all be listed: {error.message}", error.hint) from None
    began = _start_time(started.lines) - int(node.how.details.get(CLOCK_JUMP, 0))
    changed = node.machine.changed_paths()
    listing = image.listed() if image else ()
    inside = [File(f.path, f.mode, f.uid, f.gid, f.size, True, f.capabilities) for f in listing]
    seen = {(f.path, f.mode, f.uid, f.gid) for f in inside}
    beyond = []
    for file, ctime in _parse(answered(listed)):
        if (
            file.path,
            file.mode,
            file.uid,
            file.gid,
        ) not in seen:  # older than the boot: it came with the image all the same
            before = file.path not in changed if changed is not None else ctime < began
            beyond.append(File(file.path, file.mode, file.uid, file.gid, file.size, from_image=before))
    return Scan(node, image, (*inside, *beyond), tuple(_odd(listed.stdout)))


def answered(result: Result, *, fine: tuple[int, ...] = (0,)) -> Result:
    """``result``, if its command could look everywhere. Raises Unanswered otherwise: a part of an answer is none."""
    said = [
        line for line in result.stderr.decode("utf-8", "replace").splitlines() if line.strip() and not _GONE.match(line)
    ]
    gone_only = bool(result.stderr.strip()) and not said
    if said or (result.status not in fine and not gone_only):
        reason = said[0] if said else f"status {result.status}"
        raise Unanswered(
            f"{' '.join(result.command.split())[:80]}: {reason[:200]}",
            "the node could not see everything, so nothing is known of what it did not see",
        )
    return result


def unlisted(paths: Iterable[str], allowed: Iterable[str]) -> list[str]:
    """The paths that no pattern of the allow-list covers."""
    listed = _compiled(tuple(allowed))
    return sorted({path for path in paths if not listed.match(path.removesuffix(BURIED))})


def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One regular expression for all shell patterns; it matches nothing when there are none."""
    return re.compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)")


def _parse(result: Result) -> list[tuple[File, int]]:
    """Files as the node lists them, each with its change time."""
    found = []
    for line in result.stdout.decode("utf-8", "surrogateescape").splitlines():
        fields = line.split("|", 5)
        if _is_entry(fields):
            mode, uid, gid, ctime, size = int(fields[0], 16), *map(int, fields[1:5])
            found.append((File(fields[5], mode, uid, gid, size, from_image=False), ctime))
    return found


def _odd(raw: bytes) -> list[str]:
    return [line for line in raw.decode("utf-8", "surrogateescape").splitlines() if not _is_entry(line.split("|", 5))]


def _is_entry(fields: list[str]) -> bool:
    return len(fields) == 6 and all(f.isdigit() for f in fields[1:5]) and fields[5].startswith("/")


def _start_time(lines: list[str]) -> int:
    """When process 1 started, in seconds since the epoch (proc(5): stat field 22 and btime)."""
    ticks = int(lines[0].rpartition(")")[2].split()[19])
    return int(lines[1].split()[1]) + ticks // int(lines[2])
