"""What is kept of a node before it goes: console, facts, and the commands that were run."""

from __future__ import annotations

from pathlib import Path

import msgspec

from certify.errors import CertifyError
from certify.evidence.bundle import Bundle
from certify.evidence.redact import shortened
from certify.nodes.node import Node
from pytest_certify.pool import Booting


def keep_node_evidence(booting: Booting, directory: Path) -> None:
    """Write ``nodes/<name>/``. What a dead node cannot tell any more is said in its place."""
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
