"""Disks: the system is on the one that was meant, and nothing happened to the others."""

from __future__ import annotations

from typing import Any

import pytest

from certify.nodes.node import Node

_LIST = "lsblk -dbno NAME,SERIAL,SIZE"
_ENDS = 16 * 1024**2


def _disks(node: Node) -> dict[str, tuple[str, int]]:
    """Serial → (name, bytes)."""
    rows = [line.split() for line in node.run(_LIST).lines]
    return {row[1]: (row[0], int(row[2])) for row in rows if len(row) == 3}


def test_system_is_on_the_disk_that_was_written(node: Node) -> None:
    """Firmware boots from the first disk that it likes; an old system on another one may be it."""
    told = node.run_many(
        ["findmnt -nvo SOURCE / | xargs -r lsblk -sdno NAME,TYPE,SERIAL -r | awk '$2 == \"disk\" {print $3}'"]
    )[0]
    root = (
        told.text or node.run("lsblk -rsno TYPE,SERIAL $(findmnt -nvo SOURCE /) | awk '$1 == \"disk\" {print $2}'").text
    )
    assert root == node.how.details["installer"]["disk"]["serial"]


def test_every_disk_is_seen(node: Node, inventory: dict[str, Any]) -> None:
    """A disk without a driver in the image is a disk that is missing."""
    seen = _disks(node)
    missing = [disk for disk in inventory["disks"] if disk["serial"] and disk["serial"] not in seen]
    wrong = [disk for disk in inventory["disks"] if disk["serial"] in seen and seen[disk["serial"]][1] != disk["size"]]
    assert (missing, wrong) == ([], [])


def test_data_disks_are_untouched(node: Node) -> None:
    """A node's data outlives its system: the ends of every disk to keep are what they were before the image came."""
    kept = node.how.details["installer"]["kept"]
    if not kept:
        pytest.skip("nodes.yaml lists no disk to keep")
    seen = _disks(node)
    for disk in kept:
        device = f"/dev/{seen[disk['serial']][0]}"
        now = node.run_many(
            [f"(head -c {_ENDS} {device}; tail -c {_ENDS} {device}) | sha256sum | cut -d' ' -f1"], timeout=120
        )
        assert now[0].text == disk["digest"], disk["serial"]
