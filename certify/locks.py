"""One writer at a time: an advisory lock on a file, free again as soon as its holder is gone, however it went."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL = 0.1


class Busy(Exception):
    """Somebody else has held the lock for longer than was waited."""


@contextmanager
def locked(path: Path, patience: float | None = None, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of ``path``, a file that is made where there is none. With ``patience``, ``waiting`` is called while
    another holds it.

    Raises Busy after ``patience`` seconds, OSError when the file cannot be made or is a link.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = None if patience is None else time.monotonic() + patience
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            _take(descriptor, deadline, waiting)
            if _is_still(path, descriptor):
                yield
                return
        finally:
            os.close(descriptor)


def _take(descriptor: int, deadline: float | None, waiting: Callable[[], None]) -> None:
    if deadline is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy from None
            waiting()
            time.sleep(_POLL)  # flock has no time-out of its own


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the file that is locked is the one that others would lock: it may have been removed meanwhile."""
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
