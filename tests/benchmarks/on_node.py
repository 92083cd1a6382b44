"""Runs on a metal node, beside the installer's own files: the write path against disk and transport alone. Prints JSON."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import statistics
import struct
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

from installer.agent import Image
from installer.fetch import Remote
from installer.medium import opened
from installer.writer import Order, Writer

_BLKDISCARD = 0x1277  # linux/fs.h
_MIB = 1024 * 1024


def main(disk: str, times: int, plan: dict[str, Any], paced: dict[str, Any], newer: dict[str, Any]) -> None:
    """The plans name manifest, blocks and disk of an image, of the same image over a slower link, and of a newer one."""
    order, index = _order(plan)
    size = sum(map(bool, order.chunks)) * _MIB / 1e6
    results = {"digest": _digest_alone(), "full": _beside(disk, times, plan, order, index)}
    results["paced"] = _beside(disk, times, paced, order, index)
    began = time.monotonic()
    same = _write(disk, order, plan, index).tally.fetched_bytes
    same_seconds = time.monotonic() - began
    other, other_index = _order(newer)
    began = time.monotonic()
    changed = _write(disk, other, newer, other_index).tally.fetched_bytes
    results |= {
        "same": same / (size * 1e6), "same_seconds": same_seconds,
        "changed": changed / (sum(map(bool, other.chunks)) * _MIB), "changed_seconds": time.monotonic() - began,
    }  # fmt: skip
    print(json.dumps(results))


def _beside(disk: str, times: int, plan: dict[str, Any], order: Order, index: str) -> dict[str, float]:
    """Medians: MB/s of the disk alone, of the transport alone and of the writer; the read-back as a part of its writing."""
    data = [number for number, chunk in enumerate(order.chunks) if chunk]
    size = len(data) * _MIB / 1e6
    taken: dict[str, list[float]] = {"disk": [], "transport": [], "ours": [], "read_back": []}
    for _ in range(times):
        _blank(disk)
        taken["disk"].append(size / _disk_alone(disk, data))
        taken["transport"].append(size / _transport_alone(plan["disk"], data))
        _blank(disk)
        tally = _write(disk, order, plan, index).tally
        taken["ours"].append(size / tally.write_seconds)
        taken["read_back"].append(tally.read_back_seconds / tally.write_seconds)
    return {name: statistics.median(values) for name, values in taken.items()}


def _digest_alone() -> float:
    """MB/s that all processors digest together."""
    piece = os.urandom(_MIB)
    count = 32 * (os.cpu_count() or 1)
    began = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda _: hashlib.sha256(piece).digest(), range(count)))
    return count * _MIB / 1e6 / (time.monotonic() - began)


def _order(plan: dict[str, Any]) -> tuple[Order, str]:
    manifest = json.loads(Remote(plan["manifest"]).whole())
    fields = [manifest[name] for name in ("size", "chunk_size", "chunks", "block_size")]
    return Order(*fields, seed=bytes(4096), seed_id=UUID(int=1)), manifest["blocks"]


def _write(disk: str, order: Order, plan: dict[str, Any], index: str) -> Writer:
    writer = Writer(disk, order, Image(plan, index))
    writer.write()
    return writer


def _disk_alone(disk: str, data: list[int]) -> float:
    """The same bytes to the same places, from memory, until they are on the medium."""
    piece = os.urandom(_MIB)
    began = time.monotonic()
    with opened(disk) as medium:
        for number in data:
            medium.put(number * _MIB, piece)
        medium.flush()
    return time.monotonic() - began


def _transport_alone(url: str, data: list[int]) -> float:
    """The same bytes by as many connections as the writer has, and thrown away."""
    remote = Remote(url)
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: remote.piece(number * _MIB, memoryview(bytearray(_MIB))), data))
    return time.monotonic() - began


def _blank(disk: str) -> None:
    with open(disk, "r+b") as file:  # noqa: PTH123 - it runs where nothing of ours is but these lines
        size = file.seek(0, os.SEEK_END)
        fcntl.ioctl(file, _BLKDISCARD, struct.pack("<QQ", 0, size))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *map(json.loads, sys.argv[3:]))
