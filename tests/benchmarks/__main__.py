"""``make bench``: certify beside its peers in the same run; medians, ratios, and ``benchmarks.json``.

Every figure is taken several times, ours and the peer's in turn, so that a noisy machine disturbs both alike.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path

import docker

from certify.hooks import Plugins
from certify.images.store import Store
from pytest_certify.plans import plans_of
from pytest_certify.suites import find
from tests.benchmarks import machines
from tests.benchmarks.measure import BIN, TIMES, Figure, compared, peak_memory, timed, timed_argv

IMAGE = "docker-daemon:certify-demo:good"
ROOT = Path(__file__).parents[2]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="certify-bench-") as folder:
        work = Path(folder)
        (work / "pytest.ini").write_text("")
        container = docker.from_env().containers.run(
            "certify-demo:good", detach=True, cap_add=["SYS_ADMIN"], cgroupns="private", environment=["container=docker"],
            tmpfs={"/run": "", "/run/lock": "", "/tmp": ""}, tty=True,
        )  # fmt: skip
        try:
            time.sleep(3)  # the peer's container is booted before anything is measured
            figures = measure(work, container.id)
        finally:
            container.remove(force=True, v=True)
        figures += machines.measure(work)
    for figure in figures:
        peer = f"  peer {figure.peer:9.2f} {figure.unit}  ratio {figure.ratio:.3f}" if figure.ratio is not None else ""
        met = "ok  " if figure.met else "MISS"
        print(f"{met} {figure.name:<52} {figure.ours:9.2f} {figure.unit:<3}{peer}  (target {figure.target})")
    (ROOT / "benchmarks.json").write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    return 0 if all(figure.met for figure in figures) else 1


def measure(work: Path, container: str) -> list[Figure]:
    """Every figure of the list in docs/benchmarks.md."""
    figures = [*marginal(work, container), *whole_process(work, container), *many_checks(work), *start_up(work)]
    return [*figures, *planning(work)]


def planning(work: Path) -> list[Figure]:
    """Working out the plans of all built-in suites, kept by their digests, and from nothing."""
    names = [point.name for point in entry_points(group="certify.suites")]
    store = Store(work / "plans")
    kinds = Plugins().platform_kinds().values()

    def once(kept: Store | None) -> float:
        started = time.perf_counter()
        plans_of(find(names, work), kept, kinds)
        return time.perf_counter() - started

    fresh = once(store)
    again = statistics.median(once(store) for _ in range(TIMES))
    return [
        Figure(f"planning the {len(names)} built-in suites apart, kept", again, "s", "≤ 0.3 s", again <= 0.3),
        Figure("… the first time", fresh, "s", "reported", True),
    ]


def marginal(work: Path, container: str) -> list[Figure]:
    """What one more check costs: the slope between two numbers of checks, each of which runs one command."""
    sizes = {"few": 50, "many": 450, "peer-few": 10, "peer-many": 60}
    for name, count in sizes.items():
        body = "".join(f"def test_{i}(host): assert host.run('echo {i}').rc == 0\n" for i in range(count))
        (work / f"test_{name.replace('-', '_')}.py").write_text(body)
    peer = [f"--hosts=docker://{container}", "-q"]
    ours, theirs = [], []
    for _ in range(TIMES):
        few, many = (timed(work, "pytest", "--image", IMAGE, f"test_{n}.py", "-q") for n in ("few", "many"))
        ours.append((many - few) / (sizes["many"] - sizes["few"]) * 1000)
        few, many = (timed(work, "pytest", *peer, f"test_peer_{n}.py") for n in ("few", "many"))
        theirs.append((many - few) / (sizes["peer-many"] - sizes["peer-few"]) * 1000)
    mine, other = statistics.median(ours), statistics.median(theirs)
    return [
        Figure("a check that runs one command, marginal", mine, "ms", "≤ 3 ms", mine <= 3),
        compared("… against testinfra's docker backend", mine, other, "ms", 1 / 15),
    ]


def whole_process(work: Path, container: str) -> list[Figure]:
    """56 checks of common kinds, booting included, against the same file on a container that already runs."""
    (work / "test_mixed.py").write_text(MIXED)
    (work / "structure.yaml").write_text(structure_tests(50))
    (work / "test_commands.py").write_text(
        "".join(f"def test_{i}(host): assert host.run('test -e /etc/passwd').rc == 0\n" for i in range(50))
    )
    cst = [
        str(BIN / "container-structure-test"),
        "test",
        "--image",
        "certify-demo:good",
        "--config",
        "structure.yaml",
        "-q",
    ]
    ours, testinfra, commands, structure = [], [], [], []
    for _ in range(TIMES):
        ours.append(timed(work, "pytest", "--image", IMAGE, "test_mixed.py", "-q"))
        testinfra.append(timed(work, "pytest", f"--hosts=docker://{container}", "test_mixed.py", "-q"))
        commands.append(timed(work, "pytest", "--image", IMAGE, "test_commands.py", "-q"))
        structure.append(timed_argv(work, cst))
    mixed, peer = statistics.median(ours), statistics.median(testinfra)
    return [
        compared("56 checks with booting, against testinfra without", mixed, peer, "s", 0.4),
        compared(
            "50 commands, against container-structure-test",
            statistics.median(commands),
            statistics.median(structure),
            "s",
            0.1,
        ),
    ]


def many_checks(work: Path) -> list[Figure]:
    """2,000 trivial checks on one node: time and the pytest process's peak memory."""
    (work / "test_2000.py").write_text(
        "import pytest\n@pytest.mark.parametrize('i', range(2000))\ndef test_x(node, i): assert node.run('true').ok\n"
    )
    seconds, memory = [], []
    for _ in range(max(3, TIMES // 2)):
        seconds.append(timed(work, "pytest", "--image", IMAGE, "test_2000.py", "-q"))
        memory.append(peak_memory(work, "pytest", "--image", IMAGE, "test_2000.py", "-q"))
    took, peak = statistics.median(seconds), statistics.median(memory)
    return [
        Figure("2,000 checks on one node", took, "s", "≤ 12 s", took <= 12),
        Figure("… peak memory of the pytest process", peak, "MB", "≤ 250 MB", peak <= 250),
    ]


def start_up(work: Path) -> list[Figure]:
    """What certify costs those who do not use it."""
    (work / "test_nothing.py").write_text("def test_nothing(): pass\n")
    with_it, without, helps = [], [], []
    for _ in range(TIMES * 4):
        with_it.append(timed(work, "pytest", "test_nothing.py", "-q"))
        without.append(timed(work, "pytest", "-p", "no:certify", "test_nothing.py", "-q"))
        helps.append(timed(work, "certify", "--help"))
    overhead = (statistics.median(with_it) - statistics.median(without)) * 1000
    helped = statistics.median(helps)
    return [
        Figure("plugin overhead without --image", overhead, "ms", "≤ 30 ms", overhead <= 30),
        Figure("certify --help", helped, "s", "≤ 0.3 s", helped <= 0.3),
    ]


def structure_tests(count: int) -> str:
    tests = "".join(f"- {{name: t{i}, command: test, args: [-e, /etc/passwd]}}\n" for i in range(count))
    return f"schemaVersion: 2.0.0\ncommandTests:\n{tests}"


#: 56 checks of the kinds that suites consist of.
MIXED = """
import pytest

OWNED = ["/etc/passwd", "/etc/shadow", "/etc/group", "/tmp", "/usr/bin/passwd", "/etc/ssh", "/etc/hostname", "/root"]
READ = ["/etc/passwd", "/etc/group", "/etc/os-release", "/etc/hosts", "/etc/ssh/sshd_config", "/etc/login.defs"]
THERE = ["systemd", "openssh-server", "dbus", "sudo", "tzdata", "procps", "iproute2", "passwd", "libc6", "bash"]

@pytest.mark.parametrize("path", OWNED)
def test_owner(host, path):
    file = host.file(path)
    assert file.exists and file.user == "root" and file.uid == 0

@pytest.mark.parametrize("path", READ)
def test_readable(host, path):
    assert host.file(path).is_file and host.file(path).mode & 0o444 and host.file(path).size > 0

@pytest.mark.parametrize("name", THERE)
def test_package(host, name):
    assert host.package(name).is_installed and host.package(name).version

@pytest.mark.parametrize("name", ["telnetd", "nis", "xinetd", "rsh-server", "tftpd", "talk"])
def test_no_package(host, name):
    assert not host.package(name).is_installed

@pytest.mark.parametrize("name", ["ssh", "web", "dbus", "systemd-journald"])
def test_service(host, name):
    assert host.service(name).is_running

@pytest.mark.parametrize("name", ["ssh", "web"])
def test_enabled(host, name):
    assert host.service(name).is_enabled

@pytest.mark.parametrize("name", ["root", "web", "daemon", "bin", "sys", "nobody"])
def test_user(host, name):
    assert host.user(name).exists and host.user(name).uid >= 0

@pytest.mark.parametrize("name", ["root", "sudo", "shadow", "tty"])
def test_group(host, name):
    assert host.group(name).exists

@pytest.mark.parametrize("key", ["kernel.ostype", "kernel.pid_max", "net.ipv4.ip_forward", "fs.file-max"])
def test_sysctl(host, key):
    assert host.sysctl(key) is not None

@pytest.mark.parametrize("command", ["true", "id", "uname", "hostname", "date", "systemctl is-system-running"])
def test_command(host, command):
    assert host.run(command).rc == 0
"""

if __name__ == "__main__":
    sys.exit(main())
