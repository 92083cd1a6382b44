"""The node's files, listed once per node and shared by every check that looks at them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate
from typing import cast

from certify.nodes.node import Node
from certify.nodes.platform import CLOCK_JUMP

_LIST = "find / -xdev ! -path '/.certify*' ! -path '/proc/*' -exec stat -c '%f|%u|%g|%Z|%s|%n' {} + 2>/dev/null"
_STARTED = "cat /proc/1/stat; grep btime /proc/stat; getconf CLK_TCK 2>/dev/null || echo 100"
_TYPE, _LINK, _DIRECTORY, _REGULAR = 0o170000, 0o120000, 0o040000, 0o100000
_DEVICES = (0o020000, 0o060000)


@dataclass(frozen=True)
class File:
    """One directory entry. ``mode`` is st_mode; ``from_image`` is false for what booting or a check has written."""

    path: str
    mode: int
    uid: int
    gid: int
    size: int
    from_image: bool

    @property
    def is_regular(self) -> bool:
        """A plain file."""
        return self.mode & _TYPE == _REGULAR

    @property
    def is_directory(self) -> bool:
        """A directory."""
        return self.mode & _TYPE == _DIRECTORY

    @property
    def is_link(self) -> bool:
        """A symbolic link, whose own permissions mean nothing."""
        return self.mode & _TYPE == _LINK

    @property
    def is_device(self) -> bool:
        """A block or character device."""
        return self.mode & _TYPE in _DEVICES


@dataclass(frozen=True)
class Scan:
    """Every file of the root filesystem; ``odd`` are lines that are no entry: names with a newline in them."""

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


def scan(node: Node) -> Scan:
    """The node's scan, made when first asked for."""
    if "scan" not in node.extras:
        listed, started = node.run_many([_LIST, _STARTED], timeout=120)
        began = _start_time(started.lines) - int(node.how.details.get(CLOCK_JUMP, 0))
        node.extras["scan"] = _parse(listed.stdout, node.machine.changed_paths(), began)
    return cast(Scan, node.extras["scan"])


def unlisted(paths: Iterable[str], allowed: Iterable[str]) -> list[str]:
    """The paths that no pattern of the allow-list covers."""
    listed = _compiled(tuple(allowed))
    return sorted(path for path in paths if not listed.match(path))


def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """One regular expression for all shell patterns; it matches nothing when there are none."""
    return re.compile("|".join(translate(pattern) for pattern in patterns) or r"(?!)")


def grep(node: Node, pattern: str, folders: Iterable[str], *, options: str = "-rIlE") -> list[str]:
    """Files below folders that contain an extended regular expression; binary files are not looked into."""
    places = " ".join(shlex.quote(folder) for folder in folders)
    return node.run(f"grep {options} -e {shlex.quote(pattern)} {places} 2>/dev/null", timeout=120).lines


def _parse(raw: bytes, changed: frozenset[str] | None, started: int) -> Scan:
    """``changed`` is what the driver knows to be new since the boot; without it, what has changed since ``started``."""
    files, odd = [], []
    for line in raw.decode("utf-8", "surrogateescape").splitlines():
        fields = line.split("|", 5)
        if len(fields) != 6 or not all(f.isdigit() for f in fields[1:5]) or not fields[5].startswith("/"):
            odd.append(line)
            continue
        mode, uid, gid, ctime, size = int(fields[0], 16), *map(int, fields[1:5])
        from_image = fields[5] not in changed if changed is not None else ctime < started
        files.append(File(fields[5], mode, uid, gid, size, from_image))
    return Scan(tuple(files), tuple(odd))


def _start_time(lines: list[str]) -> int:
    """When process 1 started, in seconds since the epoch (proc(5): stat field 22 and btime)."""
    ticks = int(lines[0].rpartition(")")[2].split()[19])
    return int(lines[1].split()[1]) + ticks // int(lines[2])
