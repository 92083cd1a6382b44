"""Virtual machines: forks beside cold boots, the shell beside ssh, and what a fork weighs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import testinfra

from certify.config import Config, Images
from certify.hooks import Plugins
from certify.images.candidate import ImageSource
from certify.images.resolve import Resolver
from certify.nodes.node import Node, ShellSettings
from certify.nodes.platform import NodeSpec
from certify_libvirt.platform import LibvirtPlatform
from certify_libvirt.settings import VmSettings
from tests.benchmarks.measure import Figure, compared, timed
from tests.images.builder import CACHE

DISK = CACHE / "disk-good.qcow2"
#: Cold boots take a quarter of a minute each where guests are emulated.
COLD = int(os.environ.get("CERTIFY_BENCH_COLD", "3"))
FORKS = 4
_CHECKS = 20
_COLD_CHECKS = 4  # what is timed of the 20 isolated checks with cold boots; the rest is taken to cost the same


def measure(work: Path) -> list[Figure]:
    """Every figure about machines, with a store of its own."""
    store = work / "store"
    try:
        return [*_boots_and_shell(store), *_isolated(work), *_second_run(work), *_eight_guests(work)]
    finally:
        shutil.rmtree(store, ignore_errors=True)


def _boots_and_shell(store: Path) -> list[Figure]:
    config = Config(images=Images(store=str(store)))
    platform = LibvirtPlatform(VmSettings(), config.images)
    source = Resolver(Plugins().transports(config)).open(str(DISK))
    with _node(platform, source, "warm-up"):
        pass
    cold = [_first_command(platform, source, f"cold-{n}", cold=True) for n in range(COLD)]
    forks = [_first_command(platform, source, f"fork-{n}", cold=False) for n in range(COLD * 3)]
    forked, booted = statistics.median(forks), statistics.median(cold)
    figures = [
        compared("fork to first command, against a cold boot", forked, booted, "s", 1 / 8),
        Figure("fork to first command", forked, "s", "≤ 2 s", forked <= 2),
    ]
    with _node(platform, source, "shell") as node:
        figures += _shell(node)
    figures.append(_weight(platform, source))
    platform.close("bench")
    return figures


@contextmanager
def _node(platform: LibvirtPlatform, source: ImageSource, name: str, *, cold: bool = False) -> Iterator[Node]:
    spec = NodeSpec("bench", name, cold=cold)
    machine = platform.boot(source, spec, lambda _: None)
    try:
        yield Node(machine, source.candidate, spec, ShellSettings())
    finally:
        machine.remove()


def _first_command(platform: LibvirtPlatform, source: ImageSource, name: str, *, cold: bool) -> float:
    started = time.perf_counter()
    with _node(platform, source, name, cold=cold) as node:
        assert node.run("true").ok
        return time.perf_counter() - started


def _shell(node: Node) -> list[Figure]:
    """One more command, against testinfra's ssh backend as it is used without further settings, on the same guest."""
    port, key = _ssh(node)
    options = f"-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -p {port}"
    peer = testinfra.get_host("ssh://root@127.0.0.1", ssh_identity_file=str(key), ssh_extra_args=options)
    assert peer.run("true").rc == 0
    ours, theirs = [], []
    for _ in range(10):
        started = time.perf_counter()
        for _ in range(20):
            node.run("true")
        ours.append((time.perf_counter() - started) / 20 * 1000)
        started = time.perf_counter()
        peer.run("true")
        theirs.append((time.perf_counter() - started) * 1000)
    name = "a command over the shell, against testinfra over ssh"
    return [compared(name, statistics.median(ours), statistics.median(theirs), "ms", 1 / 30)]


def _ssh(node: Node) -> tuple[int, Path]:
    """A second ssh server in the guest that lets root in with a fresh key, on a forwarded port."""
    import libvirt_qemu

    folder = Path(node.machine.files.disk).parent  # type: ignore[attr-defined]
    key = folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text().strip()
    node.run(f"mkdir -p /run/sshd; echo '{public}' >/run/bench-key; chmod 600 /run/bench-key")
    node.run("/usr/sbin/sshd -p 2222 -o PermitRootLogin=yes -o AuthorizedKeysFile=/run/bench-key -o StrictModes=no")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = f"hostfwd_add net0 tcp:127.0.0.1:{port}-:2222"
    flags = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
    libvirt_qemu.qemuMonitorCommand(node.machine.domain, command, flags)  # type: ignore[attr-defined]
    return port, key


def _weight(platform: LibvirtPlatform, source: ImageSource) -> Figure:
    """Memory that one more idle fork costs the host: its share of what is resident."""
    machines = [platform.boot(source, NodeSpec("bench", f"idle-{n}"), lambda _: None) for n in range(FORKS)]
    try:
        time.sleep(5)  # idle is what is measured
        weights = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            line = path.read_bytes() if path.exists() else b""
            if b"guest=certify-idle-" in line:
                rollup = path.with_name("smaps_rollup").read_text()
                weights.append(
                    next(int(row.split()[1]) for row in rollup.splitlines() if row.startswith("Pss:")) / 1000
                )
    finally:
        for machine in machines:
            machine.remove()
    weight = statistics.median(weights)
    return Figure("host memory of an idle fork of a 1 GiB guest (share)", weight, "MB", "reported", True)


def _isolated(work: Path) -> list[Figure]:
    """20 checks, each on a node of its own."""
    body = "import pytest\n@pytest.mark.parametrize('i', range({}))\ndef test_x(node, i): assert node.run('true').ok\n"
    (work / "test_isolated.py").write_text(body.format(_CHECKS))
    (work / "test_isolated_cold.py").write_text(body.format(_COLD_CHECKS))
    (work / "cold.yaml").write_text("platforms: {vm: {forks: false}}\n")
    common = ("--image", str(DISK), "--isolation", "check", "-q")
    timed(work, "pytest", *common, "test_isolated_cold.py")  # the snapshot is there for both, and used by one
    forked = timed(work, "pytest", *common, "test_isolated.py")
    cold = (
        timed(work, "pytest", *common, "--certify-config", "cold.yaml", "test_isolated_cold.py")
        * _CHECKS
        / _COLD_CHECKS
    )
    return [compared("20 isolated checks, forked against cold (4 timed, × 5)", forked, cold, "s", 0.2)]


def _second_run(work: Path) -> list[Figure]:
    """Until the first check's result, with nothing known and with everything known of the image."""
    (work / "test_first.py").write_text("def test_first(node): assert node.run('true').ok\n")
    store = work / "second"
    (work / "second.yaml").write_text(f"images: {{store: {store}}}\n")
    first = _first_check(work)
    second = statistics.median(_first_check(work) for _ in range(3))
    shutil.rmtree(store)
    return [compared("first check of a second run, against the first run", second, first, "s", 0.3)]


def _first_check(work: Path) -> float:
    timed(work, "pytest", "--image", str(DISK), "--certify-config", "second.yaml", "test_first.py", "-q")
    run = json.loads((work / ".certify/runs/latest/run.json").read_text())
    return float(run["phases"]["first_check"])


def _eight_guests(work: Path) -> list[Figure]:
    """The pytest process's memory with eight guests running."""
    (work / "eight.yaml").write_text("platforms: {vm: {memory: 512MiB}}\nmemory_budget: 12GiB\n")
    (work / "test_eight.py").write_text(
        "from pathlib import Path\n"
        "def test_eight(node, other_node):\n"
        "    others = [other_node() for n in range(7)]\n"
        "    assert all(other.run('true').ok for other in others)\n"
        "    status = Path('/proc/self/status').read_text()\n"
        "    Path('rss').write_text(next(l.split()[1] for l in status.splitlines() if l.startswith('VmHWM')))\n"
    )
    timed(work, "pytest", "--image", str(DISK), "--certify-config", "eight.yaml", "test_eight.py", "-q")
    peak = int((work / "rss").read_text()) * 1024 / 1e6
    return [Figure("peak memory of pytest with 8 guests", peak, "MB", "≤ 300 MB", peak <= 300)]
