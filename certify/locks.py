"""Advisory locks on files, free again as soon as their holder is gone, however it went (flock(2))."""

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


class Held:
    """A lock that is held until :meth:`release`, or until its block or its process ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def note(self, text: str) -> None:
        """Write into the lock's file, for people who look at it."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text.encode(), 0)

    def release(self) -> None:
        """Let others have it. Safe to repeat."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def hold(path: Path, *, shared: bool = False) -> Held | None:
    """Take the lock of ``path``, a file that is made where there is none; None when another holds it. ``shared``: beside
    others who share it. Raises OSError when the file cannot be made or is a link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = _opened(path)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if _is_still(path, descriptor):
                return Held(descriptor)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextmanager
def locked(path: Path, patience: float | None = None, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of ``path`` alone, as :func:`hold`. With ``patience``, ``waiting`` is called while another holds it.

    Raises Busy after ``patience`` seconds, OSError.
    """
    deadline = None if patience is None else time.monotonic() + patience
    while (held := hold(path)) is None:
        if deadline is None:
            _wait(path)
        elif time.monotonic() > deadline:
            raise Busy
        else:
            waiting()
            time.sleep(_POLL)  # flock has no time-out of its own
    with held:
        yield


def _wait(path: Path) -> None:
    """Until whoever holds the lock lets go."""
    descriptor = _opened(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the file that is locked is the one that others would lock: it may have been removed meanwhile."""
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)
