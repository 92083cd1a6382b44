"""``make bench-metal``: what the image path costs on a virtual node of the lab, beside installing the same packages on it.

Everything is measured on the same node in one run: off to proven, the write path beside disk and transport alone, what
travels when an image is written again, and what twenty nodes cost the run that serves them.
"""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import resources
from pathlib import Path

from certify.config import Config, Images
from certify.hooks import Plugins
from certify.images.candidate import ImageSource
from certify.images.resolve import Resolver
from certify.images.store import Store
from certify.nodes.platform import Machine, NodeSpec
from certify.nodes.shell import run_once
from certify_metal.host.controller import Attempt, Controller
from certify_metal.host.image import BootMedium
from certify_metal.host.inventory import MetalNode, load_inventory
from certify_metal.host.keys import make_keys
from certify_metal.host.placer import as_disk
from certify_metal.host.raw import RawDisk, raw_disk
from certify_metal.node.installer.fetch import Remote
from certify_metal.platform import MetalPlatform
from certify_metal.settings import MetalSettings
from tests.benchmarks.installed import install
from tests.benchmarks.measure import TIMES, Figure, compared
from tests.images.builder import load
from tests.images.disk import build_disk
from tests.labs import running_lab

ROOT = Path(__file__).parents[2]
_NODES = 20
_HOST = "10.0.2.2"
_SO_MAX_PACING_RATE = 47  # asm-generic/socket.h; Python has no name for it
_CONNECTIONS = 4  # of one writer
_NODES_LINK = 400  # Mbit/s: slower than what two emulated processors digest and write
_COMMON_LINK = 1000


def main() -> int:
    older, newer = (build_disk(load(name)) for name in ("disk-base", "disk-base-more"))
    with (
        tempfile.TemporaryDirectory(prefix="certify-bench-", dir=ROOT / ".cache") as folder,
        running_lab(Path(folder) / "nodes.yaml", progress=_say) as inventory,
    ):
        config = Config(images=Images(store=str(Path(folder) / "store")))
        sources = [Resolver(Plugins().transports(config)).open(str(path)) for path in (older, newer)]
        disks = [raw_disk(Store(Path(config.images.store)), as_disk(source), _say) for source in sources]
        figures = [
            *on_a_node(config, inventory, sources[0], disks),
            *on_this_host(Path(folder), disks),
            *twenty(Path(folder), disks[0]),
        ]
    for figure in figures:
        peer = "" if figure.peer is None else f" against {figure.peer:.3f}: {figure.ratio:.3f}"
        verdict = "ok  " if figure.met else "MISS"
        print(f"{verdict} {figure.name:<60} {figure.ours:9.3f} {figure.unit:<5}{peer} (target {figure.target})")
    path = ROOT / "benchmarks-metal.json"
    path.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    return 0 if all(figure.met for figure in figures) else 1


@functools.lru_cache(maxsize=1)  # the same words again are not said again
def _say(words: str) -> None:
    print(f"bench: {words}", file=sys.stderr, flush=True)


def on_a_node(config: Config, inventory: Path, source: ImageSource, disks: list[RawDisk]) -> list[Figure]:
    """Image and packages in turn on one node, from off to running; between them the write path on its second disk."""
    settings = MetalSettings(nodes=str(inventory), clean="none", boot_timeout="5m")
    platform = MetalPlatform(settings, config.images)
    platform.prepare(source, "bench", _say)
    node = load_inventory(inventory).nodes["metal-1"]
    times, written = [], []
    figures: list[Figure] = []
    for number in range(max(1, min(3, TIMES))):
        _empty(node)
        machine = platform.boot(source, NodeSpec("bench", f"node-{number}"), _say)
        times.append(machine.facts.details["proven_seconds"])
        written.append(machine.facts.details["write_seconds"])
        if not figures:
            figures = write_path(machine, disks)
        machine.remove()
        _say(f"image: {times[-1]:.1f} s, of these {written[-1]:.1f} s until it was written")
    platform.close("bench")
    _empty(node)
    peer = install("metal-1", node, "cloud-init")
    _say(f"packages: {peer:.1f} s")
    name = "off to running: an image, against installing its packages"
    return [compared(name, statistics.median(times), peer, "s", 0.1), *figures]


def _empty(node: MetalNode) -> None:
    """The lab node's disks as new: two with the same file systems on them would be taken for each other."""
    assert node.console is not None
    for name in ("root", "data"):
        disk = Path(node.console.removeprefix("file:")).parent / name
        size = disk.stat().st_size
        with disk.open("r+b") as file:
            file.truncate(0)
            file.truncate(size)


def write_path(machine: Machine, disks: list[RawDisk]) -> list[Figure]:
    """The installer's writer on the node's second disk, beside its parts."""
    folder = "/run/certify-bench"
    program = base64.b64encode(_program()).decode()
    command = f"mkdir -p {folder} && printf %s {program} | base64 -d | tar -xz -C {folder}"
    assert run_once(machine.open_channel, command, 60).ok
    with _served(_HOST, disks, _NODES_LINK) as plans:
        arguments = " ".join(map(shlex.quote, plans))
        command = f"cd {folder} && python3 on_node.py /dev/vdb {max(1, min(3, TIMES))} {arguments}"
        done = run_once(machine.open_channel, command, 1800)
    if not done.ok:
        raise SystemExit(done.stderr.decode("utf-8", "replace")[-2000:])
    said = json.loads(done.stdout)
    return [
        *_beside("", said["full"]),
        Figure("… and all its processors together digest", said["digest"], "MB/s", "reported", True),
        *_beside(f", over {_NODES_LINK} Mbit/s", said["paced"]),
        _at_most("the same image again transfers", said["same"], 0.01),
        Figure("… and takes", said["same_seconds"], "s", "reported", True),
        _at_most("an image with one package changed transfers", said["changed"], 0.1),
        Figure("… and takes", said["changed_seconds"], "s", "reported", True),
        _at_most("memory of the installer", machine.facts.details["installer"]["memory"] / 1e6, 256, "MB"),
    ]


def on_this_host(work: Path, disks: list[RawDisk]) -> list[Figure]:
    """The same on the host's own processor, which is nearer to a server's, and a loop device over a common link."""
    file = work / "loop"
    file.touch()
    os.truncate(file, 8 * 1024**3)
    with tarfile.open(fileobj=io.BytesIO(_program())) as tar:
        tar.extractall(work / "program", filter="data")
    command = ["losetup", "--direct-io=on", "--find", "--show", str(file)]
    device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    try:
        with _served("127.0.0.1", disks, _COMMON_LINK) as plans:
            command = [sys.executable, "on_node.py", device, str(max(1, min(3, TIMES))), *plans]
            done = subprocess.run(command, cwd=work / "program", capture_output=True, text=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    return _beside(f" on this host, over {_COMMON_LINK} Mbit/s", json.loads(done.stdout)["paced"])


@contextmanager
def _served(host: str, disks: list[RawDisk], link: int) -> Iterator[list[str]]:
    """What :mod:`on_node` is told: the older disk, the same over a link of so many Mbit/s, and the newer disk."""
    controller, slow = Controller("127.0.0.1", make_keys()), Controller("127.0.0.1", make_keys())
    pace = link * 125_000 // _CONNECTIONS
    slow._plain.socket.setsockopt(socket.SOL_SOCKET, _SO_MAX_PACING_RATE, pace)  # connections inherit it
    try:
        served = ((controller, disks[0]), (slow, disks[0]), (controller, disks[1]))
        yield [json.dumps(_plan(host, by, disk)) for by, disk in served]
    finally:
        controller.close()
        slow.close()


def _beside(where: str, said: dict[str, float]) -> list[Figure]:
    slower = "disk" if said["disk"] < said["transport"] else "transport"
    part, name = said["ours"] / said[slower], f"write throughput{where}, of the {slower} alone"
    return [
        Figure(name, said["ours"], "MB/s", "≥ 0.8", part >= 0.8, said[slower], part),
        _at_most(f"read-back adds to the write{where}", said["read_back"], 0.25),
    ]


def _at_most(name: str, ours: float, most: float, unit: str = "×") -> Figure:
    return Figure(name, ours, unit, f"≤ {most:g}", ours <= most)


def _plan(host: str, controller: Controller, disk: RawDisk) -> dict[str, str]:
    attempt = Attempt(BootMedium(disk.path, {}), disk=disk)
    controller.add(attempt)
    base = f"http://{host}:{controller.ports[0]}/{attempt.token}"
    return {name: f"{base}/{name}" for name in ("manifest", "blocks", "disk")}


def _program() -> bytes:
    """The installer's files and ours as a tar archive."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(str(resources.files("certify_metal.node") / "installer"), "installer")
        tar.add(str(Path(__file__).with_name("on_node.py")), "on_node.py")
    return packed.getvalue()


def twenty(work: Path, disk: RawDisk) -> list[Figure]:
    """Peak memory of a process that serves twenty writers, which are processes of their own."""
    code = (
        "import sys, subprocess\nfrom pathlib import Path\nfrom tests.benchmarks.metal import serve\n"
        "url = serve(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "child = 'import sys; from tests.benchmarks.metal import simulated; simulated(*sys.argv[1:])'\n"
        f"nodes = [subprocess.Popen([sys.executable, '-c', child, url, sys.argv[2], str(n)]) for n in range({_NODES})]\n"
        "assert all(node.wait() == 0 for node in nodes)\n"
        "status = Path('/proc/self/status').read_text().split()\n"  # getrusage would count the parent's memory, too
        "print(status[status.index('VmHWM:') + 1])"
    )
    (work / "manifest").write_bytes(disk.manifest.encoded())
    command = [sys.executable, "-c", code, str(disk.path), str(work)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-2000:])
    memory = int(done.stdout) * 1024 / 1e6
    return [_at_most(f"memory of a run that serves {_NODES} nodes at once", memory, 200, "MB")]


def serve(path: Path, work: Path) -> str:
    """Serve a disk as a run does; where."""
    from certify_metal.host.chunks import read_manifest

    disk = RawDisk(path, read_manifest((work / "manifest").read_bytes()), path)
    controller = Controller("127.0.0.1", make_keys())
    attempt = Attempt(BootMedium(path, {}), disk=disk)
    controller.add(attempt)
    return f"http://127.0.0.1:{controller.ports[0]}/{attempt.token}/disk"


def simulated(url: str, folder: str, number: str) -> None:
    """One node: fetches and verifies every fourth chunk, without a disk of its own."""
    import hashlib

    from certify_metal.host.chunks import read_manifest

    manifest = read_manifest((Path(folder) / "manifest").read_bytes())
    remote = Remote(url)
    for index in range(int(number) % 4, len(manifest.chunks), 4):
        if manifest.chunks[index]:
            start = index * manifest.chunk_size
            piece = bytearray(min(manifest.chunk_size, manifest.size - start))
            remote.piece(start, memoryview(piece))
            assert hashlib.sha256(piece).hexdigest() == manifest.chunks[index]


if __name__ == "__main__":
    sys.exit(main())
