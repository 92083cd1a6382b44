"""Leases of metal nodes: two runs never share one, and a lease dies with the process that holds it (flock(2))."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable
from pathlib import Path

from certify.errors import EngineUnavailable


class Lease:
    """One held node. Give it back with :meth:`release`."""

    def __init__(self, node: str, descriptor: int) -> None:
        self.node = node
        self._descriptor = descriptor

    def release(self) -> None:
        """Let others have the node. Safe to repeat."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Leases:
    """The leases of one directory, shared by the processes of this host."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, nodes: Iterable[tuple[str, str]], timeout: float) -> Lease:
        """Lease the first free one of (name, identity) pairs; the identity is what two inventories would share.

        Raises EngineUnavailable when none is free within ``timeout`` seconds.
        """
        wanted = list(nodes)
        deadline = time.monotonic() + timeout
        while True:
            for name, identity in wanted:
                lease = self._try(name, identity)
                if lease is not None:
                    return lease
            if time.monotonic() >= deadline:
                names = ", ".join(name for name, _ in wanted)
                raise EngineUnavailable(f"no metal node is free after {timeout:.0f} s ({names})", "wait, or add nodes")
            time.sleep(0.1)  # a lock on any of several files is no event that could be waited for

    def _try(self, name: str, identity: str) -> Lease | None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{''.join(c if c.isalnum() or c == '-' else '_' for c in identity)}.lease"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return Lease(name, descriptor)
