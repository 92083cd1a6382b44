"""What is kept of a run's nodes before they go: console, facts, and the commands that were run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from certify.errors import CertifyError
from certify.evidence.bundle import Bundle
from certify.evidence.redact import shortened
from certify.nodes.node import Node
from pytest_certify.pool import Booting


class NodeEvidence:
    """Of one process of a run: implements :class:`pytest_certify.pool.Keeper`.

    ``keep`` is ``--keep-node``; ``failed`` grows with the targets that a check failed on.
    """

    def __init__(self, directory: Path, keep: str, watch: Callable[[bytes], None] | None) -> None:
        self.watch = watch
        self.failed: set[str] = set()
        self._directory = directory
        self._keep = keep

    def retire(self, booting: Booting) -> bool:
        """Write ``nodes/<name>/``. What a dead node cannot tell any more is said in its place."""
        keep_node_evidence(booting, self._directory)
        return self._keep == "always" or (self._keep == "on-failure" and booting.target.id in self.failed)

    def keep_console(self, node: str, console: bytes) -> None:
        """Write it, if there is one."""
        if console:
            Bundle(self._directory).write(f"nodes/{node}/console.log", console)

    def claims_cold(self, node: str) -> bool:
        """The first one of the run's processes that comes."""
        folder = self._directory / "nodes" / node
        try:
            folder.parent.mkdir(exist_ok=True)
            folder.mkdir()
            return True
        except FileExistsError:
            return False


def keep_node_evidence(booting: Booting, directory: Path) -> None:
    """Write a node's folder."""
    node = booting.future.result()
    bundle, folder = Bundle(directory), f"nodes/{node.name}"
    try:
        console = node.console()
    except CertifyError as error:
        console = f"[not available: {error.message}]\n".encode()
    bundle.write(f"{folder}/console.log", console)
    if booting.shared or node.facts_known:  # a node of one check that did not ask for them is not asked now
        bundle.write(f"{folder}/facts.json", _facts(node))
    try:
        picture = node.screenshot()
    except CertifyError:
        picture = None  # a machine that is gone has no screen; its console has been kept
    if picture is not None:
        bundle.write(f"{folder}/screenshot.png", picture)
    bundle.write(f"{folder}/shell.log", shortened(node.transcript_since(0)).encode("utf-8", "replace"))


def _facts(node: Node) -> bytes:
    try:
        return msgspec.json.encode({"schema": "certify.facts/v1", **node.facts.to_json()})
    except CertifyError as error:
        return msgspec.json.encode({"schema": "certify.facts/v1", "unavailable": error.message})
