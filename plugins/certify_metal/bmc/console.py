"""What a node says on its serial line from now on: out of a file that somebody else writes, or heard from its BMC."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

_CAP = 4 * 1024**2


class Console(Protocol):
    """A node's serial line since it was opened."""

    def text(self) -> bytes:
        """What was said, within a cap; or, in brackets, why there is nothing."""
        ...


@contextmanager
def opened(
    where: str | None, listen: Callable[[Callable[[bytes], None]], AbstractContextManager[None]]
) -> Iterator[Console]:
    """The serial line that the inventory's ``console`` names: ``file:PATH``, ``sol`` for what a BMC's ``listen`` hears over
    LAN, or nothing."""
    if where == "sol":
        heard = Heard()
        with listen(heard.hear):
            yield heard
    elif where is not None:
        yield Written(Path(where.removeprefix("file:")))
    else:
        yield NoConsole()


class Written:
    """The end of a file, from where it ended before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._from = path.stat().st_size if path.exists() else 0

    def text(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._from)
                return file.read(_CAP)
        except OSError as error:
            return f"[{self._path}: {error.strerror}]\n".encode()


class Heard:
    """What was heard so far; :meth:`hear` may be called from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said = bytearray()

    def hear(self, piece: bytes) -> None:
        """Keep it while there is room: a machine that talks without end fills no memory."""
        with self._lock:
            self._said += piece[: _CAP - len(self._said)]

    def text(self) -> bytes:
        with self._lock:
            return bytes(self._said)


class NoConsole:
    """Of a node whose inventory names none."""

    def text(self) -> bytes:
        return b"[no console is configured for this node: nodes.yaml, console]\n"
