"""Leases of metal nodes: two runs never share one, and a lease dies with the process that holds it (flock(2))."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from certify.errors import EngineUnavailable
from certify.locks import Held, hold
from certify.waiting import until


@dataclass(frozen=True)
class Lease:
    """One held node. Give it back with :meth:`release`."""

    node: str
    held: Held

    def release(self) -> None:
        """Let others have the node. Safe to repeat."""
        self.held.release()


class Leases:
    """The leases of one directory, shared by the processes of this host."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, nodes: Iterable[tuple[str, str]], timeout: float) -> Lease:
        """Lease the first free one of (name, identity) pairs; the identity is what two inventories would share.

        Raises EngineUnavailable when none is free within ``timeout`` seconds.
        """
        wanted = list(nodes)

        def any_free() -> Lease | None:
            return next((lease for name, identity in wanted if (lease := self._try(name, identity))), None)

        lease = until(any_free, timeout, 0.1)  # a lock on any of several files is no event that could be waited for
        if lease is None:
            names = ", ".join(name for name, _ in wanted)
            raise EngineUnavailable(f"no metal node is free after {timeout:.0f} s ({names})", "wait, or add nodes")
        return lease

    def _try(self, name: str, identity: str) -> Lease | None:
        held = hold(self._folder / f"{''.join(c if c.isalnum() or c == '-' else '_' for c in identity)}.lease")
        if held is None:
            return None
        held.note(f"{os.getpid()}\n")
        return Lease(name, held)
