"""The service as it runs: ports, users, files it executes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from certify.errors import Unanswered
from certify.images.candidate import Candidate
from certify.nodes.facts import Socket
from certify.nodes.node import Node
from certify_suites.scan import File, Scan, unlisted

pytestmark = pytest.mark.platform("container")

#: Process id, effective user id and program of each, by the shell's own means but for the link.
_PROCESSES = (
    'for p in /proc/[0-9]*; do u=; while read -r k r e x; do [ "$k" != Uid: ] || u=$e; done <$p/status;'
    ' printf "%s %s %s\\n" ${p#/proc/} "$u" "$(readlink $p/exe)"; done 2>/dev/null'
)
_ENGINE_DNS = "127.0.0.11"
_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


@dataclass(frozen=True)
class Process:
    """One running program: its effective user id and the file it executes; empty where the kernel does not tell."""

    pid: int
    uid: int
    exe: str


def _processes(node: Node) -> list[Process]:
    rows = [line.split(" ", 2) for line in node.run(_PROCESSES).lines]
    found = [Process(int(r[0]), int(r[1]), r[2]) for r in rows if len(r) == 3 and r[0].isdigit() and r[1].isdigit()]
    if not any(process.pid == 1 for process in found):
        raise Unanswered("the node does not show its process 1", "nothing is known of what runs there")
    return found


def _program(node: Node, process: Process, files: dict[str, File]) -> str:
    """The file a process executes; empty where it cannot be told. Root without SYS_PTRACE may not ask that of another user's:
    then it is the file that the process was called by, unless it has given itself a title."""
    if process.exe.startswith("/"):
        return process.exe
    try:
        called = node.read(f"/proc/{process.pid}/cmdline").split(b"\0")[0].decode("utf-8", "surrogateescape")
    except (FileNotFoundError, Unanswered):
        return ""  # it has ended meanwhile
    places = [called] if called.startswith("/") else [f"{folder}/{called}" for folder in _PATH]
    return next((place for place in places if place in files), "")


def _declared(image: Candidate) -> set[int]:
    return {int(port.split("/")[0]) for port in image.config.ports if port.endswith("/tcp")}


def _listening(node: Node) -> list[Socket]:
    return [s for s in node.facts.sockets if s.protocol.startswith("tcp") and s.address != _ENGINE_DNS]


def test_declared_ports_are_served(image: Candidate, node: Node) -> None:
    """EXPOSE is a promise to whoever wires the container up."""
    assert sorted(_declared(image) - {socket.port for socket in _listening(node)}) == []


def test_no_undeclared_port_is_open(image: Candidate, node: Node, settings: dict[str, Any]) -> None:
    """A port that nobody declared is one that nobody firewalls."""
    allowed = _declared(image) | set(settings["undeclared_ports_allowed"])
    assert sorted({s.port for s in _listening(node) if not s.loopback} - allowed) == []


@pytest.mark.control("CIS-DOCKER-4.1")
def test_ports_are_served_by_a_normal_user(image: Candidate, node: Node, settings: dict[str, Any]) -> None:
    """A bug in what the network can reach must not be root."""
    served = [s for s in _listening(node) if s.port in _declared(image) and s.port not in settings["root_ports"]]
    assert [s.port for s in served if s.uid == 0] == []


@pytest.mark.needs("service")
@pytest.mark.control("CIS-DOCKER-4.1")
def test_process_1_is_a_normal_user(node: Node) -> None:
    """Root in a container is root on the host after the next kernel bug."""
    assert [p.uid for p in _processes(node) if p.pid == 1 and p.uid == 0] == []


@pytest.mark.needs("service")
def test_process_1_has_no_capabilities(node: Node) -> None:
    """A service for the network needs none of root's special rights."""
    lines = node.run("grep CapEff /proc/1/status").lines
    assert int(lines[0].split()[1], 16) == 0, lines[0]


def test_service_cannot_change_its_code(node: Node, settings: dict[str, Any], scanned: Scan) -> None:
    """An intruder who can write the program stays after a restart."""
    files = {file.path: file for file in scanned.files}
    bad = set()
    for process in _processes(node):
        if process.uid == 0:
            continue
        program = _program(node, process, files)
        file, folder = files.get(program), files.get(program.rpartition("/")[0] or "/")
        if any(f and (f.uid == process.uid or f.mode & 0o002) for f in (file, folder)):
            bad.add(program)
    assert unlisted(bad, settings["writable_code_allowed"]) == []


@pytest.mark.needs("service")
def test_logs_go_to_standard_output(node: Node) -> None:
    """What is logged into the container's own files is gone with it."""
    assert node.console().strip() != b"", "the service has said nothing on its standard output"


@pytest.mark.needs("service")
def test_no_log_files_are_written(scanned: Scan) -> None:
    """A log file inside a container fills its layer until the host is full."""
    logs = [
        f.path for f in scanned.files if f.path.startswith("/var/log/") and f.is_regular and not f.from_image and f.size
    ]
    assert logs == []


@pytest.mark.destructive
@pytest.mark.needs("reboot")
def test_stops_when_asked(node: Node, settings: dict[str, Any]) -> None:
    """A service that ignores its stop signal is killed with its work half done, and every rollout waits for it."""
    stopped = node.stop()
    assert not stopped.killed, f"it ignored its stop signal for {stopped.seconds:.1f} s and was killed"
    assert stopped.seconds < settings["stop_seconds"]
