"""The files of an image, read where it lies: what is in it, whatever its boot would hide, mount over or change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from certify.errors import ImageInvalid

#: Larger files are not read whole, in bytes: none that a check reads is.
MOST_READ = 64 * 1024 * 1024


#: Larger files that a later layer removed are not looked at, in bytes.
MOST_BURIED = 4 * 1024 * 1024


@dataclass(frozen=True)
class ImageFile:
    """One file. ``mode`` is st_mode with the type, ``size`` in bytes; ``link`` is where a symbolic link leads.
    ``capabilities``: it has some (capabilities(7), file capabilities); None where that cannot be told."""

    path: str
    mode: int
    uid: int
    gid: int
    size: int
    link: str = ""
    capabilities: bool | None = None


class ImageFiles(Protocol):
    """The root filesystem of one image."""

    def listed(self) -> tuple[ImageFile, ...]:
        """Every file, by path."""
        ...

    def content(self, path: str) -> bytes | None:
        """A file's bytes, links followed inside the root; None when there is no such file. Raises ImageInvalid for more than
        :data:`MOST_READ`."""
        ...

    def buried(self) -> Iterator[tuple[ImageFile, Callable[[], bytes]]]:
        """Files that are in the image's bytes though nothing shows them, because a later layer replaces or removes them, each
        with a way to read it; those of at most :data:`MOST_BURIED` bytes. Whoever has the image can read them."""
        ...

    def close(self) -> None:
        """Forget what was unpacked to read it. Safe to repeat."""
        ...


def bounded(data: bytes, path: str) -> bytes:
    """``data``, unless it is more than may be read. Raises ImageInvalid."""
    if len(data) > MOST_READ:
        raise ImageInvalid(f"{path} is larger than {MOST_READ} bytes", "a file that is read as text never is")
    return data
