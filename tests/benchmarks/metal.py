"""``make bench-metal``: the write path beside its parts, what a second write fetches, and what twenty nodes cost the run.

The installer's writer runs here as it does on a node, on a file in place of the disk, fed by the run's own server: so disk,
transport and processor are the same for both sides of each ratio.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from uuid import UUID

from certify.images.chunks import Manifest, make_manifest
from certify_redfish.controller import Attempt, Controller
from certify_redfish.image import Medium
from certify_redfish.installer.agent import _get
from certify_redfish.installer.writer import Order, Writer
from certify_redfish.keys import make_keys
from tests.benchmarks.measure import TIMES, Figure
from tests.images.builder import load
from tests.images.disk import build_disk

ROOT = Path(__file__).parents[2]
_NODES = 20
_SEED = bytes(4096)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="certify-bench-", dir=ROOT / ".cache") as folder:
        work = Path(folder)
        disk = raw(work, "disk-base", work / "raw")
        figures = [*throughput(work, disk), *again(work, disk), *twenty(work, disk)]
    for figure in figures:
        print(
            f"{'ok  ' if figure.met else 'MISS'} {figure.name:<58} {figure.ours:9.3f} {figure.unit:<5} (target {figure.target})"
        )
    path = ROOT / "benchmarks-metal.json"
    path.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    return 0 if all(figure.met for figure in figures) else 1


def raw(work: Path, name: str, target: Path) -> Path:
    del work
    source = build_disk(load(name))
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(source), str(target)], check=True)
    return target


class Served:
    """A controller that serves one disk, as a run's does."""

    def __init__(self, disk: Path) -> None:
        self.manifest: Manifest = make_manifest(disk, "sha256:00")
        self.controller = Controller("127.0.0.1", make_keys())
        self.attempt = Attempt(Medium(disk, 0), disk=disk, manifest=self.manifest)
        self.controller.add(self.attempt)
        self.url = f"http://127.0.0.1:{self.controller.ports[0]}/{self.attempt.token}/disk"

    def fetch(self, index: int) -> bytes:
        start = index * self.manifest.chunk_size
        return _get(self.url, (start, min(start + self.manifest.chunk_size, self.manifest.size) - 1))

    def write(self, target: Path) -> Writer:
        manifest = self.manifest
        order = Order(manifest.size, manifest.chunk_size, manifest.chunks, _SEED, UUID(int=1))
        writer = Writer(str(target), order, self.fetch)
        writer.write()
        return writer


def blank(path: Path) -> Path:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(2 * 1024**3)
    return path


def throughput(work: Path, disk: Path) -> list[Figure]:
    served, ours, disks, lines, read_back = Served(disk), [], [], [], []
    data = [index for index, chunk in enumerate(served.manifest.chunks) if chunk]
    size = served.manifest.data_bytes / 1e6
    for _ in range(TIMES):
        began = time.perf_counter()
        with disk.open("rb") as source, blank(work / "alone").open("r+b") as target:
            for index in data:
                source.seek(index * 1024**2)
                target.seek(index * 1024**2)
                target.write(source.read(1024**2))
            target.flush()
            subprocess.run(["sync", str(work / "alone")], check=True)
        disks.append(size / (time.perf_counter() - began))
        began = time.perf_counter()
        with ThreadPoolExecutor(4) as pool:
            sum(pool.map(lambda index: len(served.fetch(index)), data))
        lines.append(size / (time.perf_counter() - began))
        tally = served.write(blank(work / "target")).tally
        ours.append(size / tally.write_seconds)
        read_back.append(tally.read_back_seconds / tally.write_seconds)
    served.controller.close()
    mine, slower = statistics.median(ours), min(statistics.median(disks), statistics.median(lines))
    part, added = mine / slower, statistics.median(read_back)
    return [
        Figure("write throughput of the slower of disk and transport", part, "×", "≥ 0.80", part >= 0.8, slower, part),
        Figure("… in itself", mine, "MB/s", "reported", True),
        Figure("read-back adds to the write", added, "×", "≤ 0.25", added <= 0.25),
    ]


def again(work: Path, disk: Path) -> list[Figure]:
    """What travels when the same image is written again, and when one package more is in it."""
    served = Served(disk)
    target = blank(work / "target")
    served.write(target)
    same = served.write(target).tally.fetched_bytes / served.manifest.data_bytes
    served.controller.close()
    other = Served(raw(work, "disk-base-more", work / "raw-more"))
    part = other.write(target).tally.fetched_bytes / other.manifest.data_bytes
    other.controller.close()
    return [
        Figure("the same image again transfers", same, "×", "≤ 0.01", same <= 0.01),
        Figure("an image with one package changed transfers", part, "×", "≤ 0.10", part <= 0.1),
    ]


def twenty(work: Path, disk: Path) -> list[Figure]:
    """Peak memory of a process that serves twenty writers, which are processes of their own."""
    code = (
        "import sys, subprocess, resource\nfrom pathlib import Path\nfrom tests.benchmarks.metal import Served\n"
        "served = Served(Path(sys.argv[1]))\n"
        "child = 'import sys; from tests.benchmarks.metal import simulated; simulated(*sys.argv[1:])'\n"
        "Path(sys.argv[2], 'manifest').write_bytes(served.manifest.encoded())\n"
        f"nodes = [subprocess.Popen([sys.executable, '-c', child, served.url, sys.argv[2], str(n)]) for n in range({_NODES})]\n"
        "assert all(node.wait() == 0 for node in nodes)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(disk), str(work)], cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    memory = int(done.stdout) * 1024 / 1e6
    return [Figure(f"memory of a run that serves {_NODES} nodes at once", memory, "MB", "≤ 200", memory <= 200)]


def simulated(url: str, folder: str, number: str) -> None:
    """One node: fetches and verifies every fourth chunk, without a disk of its own."""
    import hashlib

    from certify.images.chunks import read_manifest

    manifest = read_manifest((Path(folder) / "manifest").read_bytes())
    for index in range(int(number) % 4, len(manifest.chunks), 4):
        if manifest.chunks[index]:
            start = index * manifest.chunk_size
            piece = _get(url, (start, min(start + manifest.chunk_size, manifest.size) - 1))
            assert hashlib.sha256(piece).hexdigest() == manifest.chunks[index]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
