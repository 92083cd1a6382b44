"""Nodes that people asked to keep (``--keep-node``): their owner is gone, and they are nobody's leftovers."""

from __future__ import annotations

import hashlib

from certify.files import write_whole
from certify.images.store import Store


class KeptNodes:
    """The owners (:mod:`certify.nodes.owner`) whose nodes are kept, remembered in a store."""

    def __init__(self, store: Store) -> None:
        self._folder = store.folder("kept")

    def remember(self, owner: str) -> None:
        """From now on its nodes are left alone."""
        write_whole(self._folder / hashlib.sha256(owner.encode()).hexdigest(), owner.encode())

    def owners(self) -> frozenset[str]:
        """All that are remembered."""
        return frozenset(path.read_text() for path in self._folder.iterdir() if not path.name.startswith("."))

    def forget(self) -> None:
        """None is kept any more."""
        for path in list(self._folder.iterdir()):
            path.unlink(missing_ok=True)
