"""testinfra over certify's shell gives the same answers as testinfra's own docker backend, module by module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import testinfra

from certify.config import Config
from certify.evidence.run import new_run_id
from certify.hooks import Plugins
from certify.images.resolve import Resolver
from certify.nodes.node import Node, ShellSettings
from certify.nodes.platform import NodeSpec
from certify_docker.platform import DockerPlatform
from certify_docker.settings import ContainerSettings
from certify_fixtures.host import CertifyBackend
from tests.integration.conftest import DEMO


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Any, Any]]:
    platform, run_id = DockerPlatform(ContainerSettings()), new_run_id()
    source = Resolver(Plugins().transports(Config())).open(DEMO + "good")
    spec = NodeSpec(run_id, "parity")
    node = Node(platform.boot(source, spec, lambda _: None), source.candidate, spec, ShellSettings())
    node.run(
        "touch '/tmp/a b'; ln -s /etc/passwd /tmp/link; printf 'x\\377y' >/tmp/bytes; adduser --system twin >/dev/null 2>&1"
    )
    yield CertifyBackend.host_of(node), testinfra.get_host(f"docker://{node.how.details['container']}")
    node.remove()
    platform.close(run_id)


FILES = (
    "/etc/passwd",
    "/nowhere",
    "/tmp",
    "/tmp/link",
    "/tmp/a b",
    "/usr/bin/passwd",
    "/dev/null",
    "/run",
    "/etc/shadow",
)
FILE_ATTRIBUTES = ("exists", "is_file", "is_directory", "is_pipe", "is_socket", "is_symlink", "is_executable")
MORE_ATTRIBUTES = ("linked_to", "user", "uid", "group", "gid", "mode", "size", "mtime", "inode")

QUESTIONS: dict[str, Callable[[Any], Any]] = {
    **{f"file {p} {a}": lambda h, p=p, a=a: getattr(h.file(p), a) for p in FILES for a in FILE_ATTRIBUTES},
    **{
        f"file {p} {a}": lambda h, p=p, a=a: getattr(h.file(p), a)
        for p in FILES
        if p != "/nowhere"
        for a in MORE_ATTRIBUTES
    },
    "file content": lambda h: h.file("/etc/passwd").content,
    "file bytes": lambda h: h.file("/tmp/bytes").content,
    "file content_string": lambda h: h.file("/etc/os-release").content_string,
    "file md5sum": lambda h: h.file("/etc/passwd").md5sum,
    "file sha256sum": lambda h: h.file("/etc/passwd").sha256sum,
    "file contains": lambda h: (h.file("/etc/passwd").contains("root"), h.file("/etc/passwd").contains("nobody-here")),
    "file listdir": lambda h: sorted(h.file("/etc/ssh").listdir()),
    **{
        f"package {p} {a}": lambda h, p=p, a=a: getattr(h.package(p), a)
        for p, a in (
            ("systemd", "is_installed"),
            ("systemd", "version"),
            ("systemd", "release"),
            ("nothing-such", "is_installed"),
        )
    },
    **{
        f"service {s} {a}": lambda h, s=s, a=a: getattr(h.service(s), a)
        for s in ("ssh", "web", "nothing-such", "dbus")
        for a in ("is_running", "is_enabled", "is_valid", "is_masked", "exists")
    },
    "service properties": lambda h: h.service("web").systemd_properties["FragmentPath"],
    **{
        f"user {u} {a}": lambda h, u=u, a=a: getattr(h.user(u), a)
        for u in ("root", "web", "twin")
        for a in (
            "exists",
            "uid",
            "gid",
            "group",
            "groups",
            "gids",
            "home",
            "shell",
            "gecos",
            "password",
            "expiration_date",
        )
    },
    "user nobody": lambda h: h.user("nothing-such").exists,
    "user current": lambda h: h.user().name,
    "group": lambda h: [(h.group(g).exists, h.group(g).gid, h.group(g).members) for g in ("root", "sudo")],
    "group none": lambda h: h.group("nothing-such").exists,
    "process": lambda h: [(p.pid, p.user, p.comm) for p in h.process.filter(comm="web")],
    "process get": lambda h: h.process.get(pid=1).args,
    "socket tcp": lambda h: [
        h.socket(s).is_listening for s in ("tcp://0.0.0.0:22", "tcp://8080", "tcp://127.0.0.1:9", "tcp://:::22")
    ],
    "socket list": lambda h: sorted(h.socket.get_listening_sockets()),
    "mount_point": lambda h: [(h.mount_point(p).exists) for p in ("/", "/run", "/nowhere")],
    "mount_point run": lambda h: (
        h.mount_point("/run").filesystem,
        h.mount_point("/run").device,
        h.mount_point("/run").options,
    ),
    "mount_points": lambda h: [(m.path, m.filesystem) for m in h.mount_point.get_mountpoints()],
    "sysctl": lambda h: [h.sysctl(k) for k in ("kernel.ostype", "kernel.pid_max", "net.ipv4.ip_forward")],
    "interface": lambda h: [(h.interface(i).exists, h.interface(i).addresses) for i in ("lo", "eth0", "none0")],
    "interface names": lambda h: h.interface.names(),
    "interface default": lambda h: h.interface.default().name,
    "interface speed": lambda h: h.interface("eth0").speed,
    "addr": lambda h: [(h.addr(a).is_resolvable, h.addr(a).ip_addresses) for a in ("localhost", "127.0.0.1")],
    "addr port": lambda h: h.addr("127.0.0.1").namespace_exists,
    "system_info": lambda h: (
        h.system_info.type,
        h.system_info.distribution,
        h.system_info.release,
        h.system_info.codename,
        h.system_info.arch,
    ),
    "environment": lambda h: sorted(k for k in h.environment() if k not in ("_", "PWD", "OLDPWD", "SHLVL")),
    "environment PATH": lambda h: h.environment()["PATH"],
    "block_device": lambda h: h.exists("blockdev"),
    "exists": lambda h: [h.exists(c) for c in ("sh", "systemctl", "nothing-such")],
    "find_command": lambda h: h.find_command("sshd"),
    "run": lambda h: [
        (r.rc, r.stdout, r.stderr) for r in (h.run("echo a; echo b >&2; exit 3"), h.run("echo %s", "it's $HOME"))
    ],
    "run bytes": lambda h: h.run("printf 'a\\000\\377'").stdout_bytes,
    "check_output": lambda h: h.check_output("hostname"),
    "iptables": lambda h: h.exists("iptables"),
    "pip": lambda h: h.exists("pip"),
    "sudo": lambda h: h.user().uid,
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_same_answer(hosts: tuple[Any, Any], question: str) -> None:
    ask = QUESTIONS[question]
    ours, theirs = (_answer(ask, host) for host in hosts)
    assert ours == theirs
    assert not str(theirs).startswith("AttributeError"), "the question is wrong"


def _answer(ask: Callable[[Any], Any], host: Any) -> Any:
    try:
        return ask(host)
    except Exception as error:  # noqa: BLE001 - the error is an answer too, and must be the same
        return f"{type(error).__name__}"


def test_a_remembered_answer_is_forgotten_when_something_may_have_changed(hosts: tuple[Any, Any]) -> None:
    host, _ = hosts
    assert not host.file("/tmp/new").exists
    host.run("touch /tmp/new")
    assert host.file("/tmp/new").exists


def test_asking_again_in_the_same_check_asks_the_node(hosts: tuple[Any, Any]) -> None:
    host, _ = hosts
    host.backend._node.check = "another check"
    assert not host.file("/tmp/later").exists
    host.backend._node.open_shell().run("touch /tmp/later")
    assert host.file("/tmp/later").exists
