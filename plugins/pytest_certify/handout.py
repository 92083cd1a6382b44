"""Which node the running check uses, and until when: by the isolation in force."""

from __future__ import annotations

from typing import Any

import pytest

from certify.errors import NotReadable
from certify.images.files import ImageFiles
from certify.nodes.facts import Facts
from certify.nodes.node import Node
from pytest_certify import collection
from pytest_certify.context import Context
from pytest_certify.pool import Booting, Key, NodePool
from pytest_certify.targets import PlannedTarget
from pytest_certify.terminal import Progress


class Handout:
    """Hands out the nodes of a pool to one check after the other."""

    def __init__(self, pool: NodePool, context: Context, isolation: str, progress: Progress) -> None:
        self._pool = pool
        self._context = context
        self._isolation = isolation
        self._progress = progress
        self._item: pytest.Item
        self._used: tuple[str, Node | None, int] = ("", None, 0)
        self._others: list[Key] = []

    def begins(self, item: pytest.Item) -> None:
        """Know which check runs, and on which node if it is up already."""
        self._item = item
        target = collection.target_of(item)
        node = self._pool.peek(self.key(item, target)) if target else None
        if node is not None:
            self._begin(item, node)

    def node_for(self, target: PlannedTarget) -> Node:
        """The node the running check uses. Raises NoVerdict."""
        node = self._wait(self.key(self._item, target), target)
        self._begin(self._item, node)
        return node

    def second_node_for(self, target: PlannedTarget) -> Node:
        """One more node for the running check. Raises NoVerdict."""
        beside = self.key(self._item, target)
        return self._wait(("second", self._item.nodeid), target, beside=beside, own_identity=True)

    def other_node_for(self, target: PlannedTarget, **how: Any) -> Node:
        """One more node for the running check, booted as the NodeSpec fields in ``how`` say. Raises NoVerdict."""
        key = ("second", f"{self._item.nodeid} {len(self._others)}")
        self._others.append(key)
        return self._wait(key, target, beside=self.key(self._item, target), **how)

    def files_of(self, target: PlannedTarget) -> ImageFiles | None:
        """The files of a target's image, read on this host; None for an image that only booting shows. Raises ImageError."""
        try:
            return self._pool.files(target, self._context.config.images).result()
        except NotReadable:
            return None

    def first_target_of(self, target: PlannedTarget) -> PlannedTarget:
        """The target of the same candidate that this run names first."""
        return next(t for t in self._context.targets if t.candidate.digest == target.candidate.digest)

    def facts_of(self, target: PlannedTarget) -> Facts:
        """Facts of a target's shared node, gathered before any check; also after that node has gone. Raises NoVerdict."""
        known = self._pool.facts.get(target.id)
        return known or self._wait(("run", target.id), target).facts

    def used_by(self, item: pytest.Item) -> tuple[Node | None, int]:
        """The node a check uses, if it has come to one, and how many commands it had run before."""
        check, node, before = self._used
        return (node, before) if check == item.nodeid else (None, 0)

    def key(self, item: pytest.Item, target: PlannedTarget) -> Key:
        """What names the node of a check in the pool."""
        if has_own_node(item) or self._isolation == "check":
            return ("check", item.nodeid)
        if self._isolation == "module":
            return ("module", f"{item.path}[{target.id}]")
        return ("run", target.id)

    def release(self, item: pytest.Item, target: PlannedTarget, nextitem: pytest.Item | None) -> None:
        """Give back what ``nextitem`` and those behind it have no use for."""
        key = self.key(item, target)
        for other in (("second", item.nodeid), *self._others):
            self._pool.release(other)
        self._others.clear()
        next_target = collection.target_of(nextitem) if nextitem else None
        if key[0] == "check" or (key[0] == "module" and (not next_target or self.key(nextitem, next_target) != key)):  # type: ignore[arg-type]
            self._pool.release(key)
        if next_target is not None and next_target.id != target.id:
            self._pool.release_target(target.id)

    def _begin(self, item: pytest.Item, node: Node) -> None:
        if node.check != item.nodeid:
            node.check = item.nodeid
            self._used = (item.nodeid, node, node.commands)

    def _wait(self, key: Key, target: PlannedTarget, beside: Key | None = None, **how: Any) -> Node:
        waited: list[Booting] = []

        def waiting(booting: Booting) -> None:
            waited[:] = [booting]
            self._progress.waiting(booting)

        node = self._pool.get(target, key, waiting, beside=beside, **how)
        if waited:
            self._progress.ready(waited[0])
        return node


def has_own_node(item: pytest.Item) -> bool:
    """Whether a check damages its node, and so gets one of its own."""
    return item.get_closest_marker("destructive") is not None
