"""Runs on a metal node, beside the installer's own files: the write path against disk and transport alone. Prints JSON."""

from __future__ import annotations

import fcntl
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


def main(disk: str, times: int, plan: dict[str, Any], newer: dict[str, Any]) -> None:
    """``plan`` and ``newer`` name manifest, blocks and disk of two images."""
    order, index = _order(plan)
    data = [number for number, chunk in enumerate(order.chunks) if chunk]
    size = len(data) * _MIB / 1e6
    alone, transport, ours, read_back = [], [], [], []
    for _ in range(times):
        _blank(disk)
        alone.append(size / _disk_alone(disk, data))
        transport.append(size / _transport_alone(plan["disk"], data))
        _blank(disk)
        writer = _write(disk, order, plan, index)
        ours.append(size / writer.tally.write_seconds)
        read_back.append(writer.tally.read_back_seconds / writer.tally.write_seconds)
    began = time.monotonic()
    same = _write(disk, order, plan, index).tally.fetched_bytes
    same_seconds = time.monotonic() - began
    other, other_index = _order(newer)
    began = time.monotonic()
    changed = _write(disk, other, newer, other_index).tally.fetched_bytes
    middle = statistics.median
    result = {
        "disk": middle(alone), "transport": middle(transport), "ours": middle(ours), "read_back": middle(read_back),
        "same": same / (size * 1e6), "same_seconds": same_seconds,
        "changed": changed / (sum(map(bool, other.chunks)) * _MIB), "changed_seconds": time.monotonic() - began,
    }  # fmt: skip
    print(json.dumps(result))


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
    main(sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4]))
