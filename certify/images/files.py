"""The files of an image, read where it lies: what is in it, whatever its boot would hide, mount over or change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ImageFile:
    """One file. ``mode`` is st_mode with the type, ``size`` in bytes; ``link`` is where a symbolic link leads."""

    path: str
    mode: int
    uid: int
    gid: int
    size: int
    link: str = ""


class ImageFiles(Protocol):
    """The root filesystem of one image."""

    def listed(self) -> tuple[ImageFile, ...]:
        """Every file, by path."""
        ...

    def content(self, path: str) -> bytes | None:
        """A file's bytes, symbolic links followed inside the root; None when there is no such file."""
        ...

    def close(self) -> None:
        """Forget what was unpacked to read it. Safe to repeat."""
        ...
