"""The container platform on the real engine."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest

from certify.config import Config
from certify.errors import BootFailed, CertifyError, CommandTimeout, GuestFailed, NodeLost, OutputLimit
from certify.evidence.run import new_run_id
from certify.hooks import Plugins
from certify.images.resolve import Resolver
from certify.nodes.node import Node, ShellSettings
from certify.nodes.platform import NodeSpec
from certify_docker.boot_mode import detect
from certify_docker.platform import DockerPlatform
from certify_docker.settings import ContainerSettings
from tests.integration.conftest import DEMO, MakeImage, left_behind

Boot = Callable[..., Node]
BUSYBOX = {"copy": "/usr/bin/busybox", "mode": "0755"}


@pytest.fixture
def boot(engine: docker.DockerClient) -> Iterator[Boot]:
    """Boots a reference with platform settings; everything is gone afterwards, and that is checked."""
    run_id, nodes, platforms, numbers = new_run_id(), list[Node](), list[DockerPlatform](), itertools.count()

    def start(reference: str, strict: bool = False, **settings: object) -> Node:
        platform = DockerPlatform(ContainerSettings(**settings))  # type: ignore[arg-type]
        platforms.append(platform)
        source = Resolver(Plugins().transports(Config())).open(reference)
        spec = NodeSpec(run_id, f"n{next(numbers)}")
        machine = platform.boot(source, spec, lambda _: None)
        nodes.append(Node(machine, source.candidate, spec, ShellSettings(strict=strict, limit=2_000_000)))
        return nodes[-1]

    yield start
    for node in nodes:
        node.remove()
    for platform in platforms:
        platform.close(run_id)
    assert left_behind(engine, run_id) == []


def test_init_mode_boots_systemd(boot: Boot) -> None:
    node = boot(DEMO + "good")
    assert node.how.details["mode"] == "init"
    assert node.run("systemctl is-system-running").text == "running"
    assert node.facts.os_release["ID"] == "debian"
    assert len(node.facts.packages) > 50
    assert node.facts.units["ssh.service"].active == "active"
    assert {8080, 22} <= {s.port for s in node.facts.sockets}
    assert node.console() != b""


def test_service_mode_runs_the_entrypoint_untouched(boot: Boot, engine: docker.DockerClient) -> None:
    node = boot(DEMO + "scratch")
    details = engine.containers.get(node.how.details["container"]).attrs
    assert node.how.details["mode"] == "service"
    assert details["Path"] == "/web"
    assert b"listens on port 8080" in node.console()
    assert node.run("echo $0; id -u").text.endswith("0")


def test_idle_mode_keeps_a_tool_image_alive(boot: Boot, make_image: MakeImage) -> None:
    reference = make_image("tool", command=["/bin/sh"], files={"/bin/sh": BUSYBOX})
    node = boot(reference)
    assert node.how.details["mode"] == "idle"
    assert node.run("echo alive").text == "alive"


def test_hardened_by_default(boot: Boot, engine: docker.DockerClient) -> None:
    details = engine.containers.get(boot(DEMO + "scratch").how.details["container"]).attrs
    host = details["HostConfig"]
    assert not host["CapAdd"]
    assert host["Privileged"] is False
    assert host["Memory"] == 1024**3
    assert host["PidsLimit"] == 2048
    assert set(host["CapDrop"]) == {"MKNOD", "NET_RAW"}
    assert not host["Binds"]
    networks = [engine.networks.get(name) for name in details["NetworkSettings"]["Networks"]]
    assert [network.attrs["Internal"] for network in networks] == [True]


def test_limits_are_in_force(boot: Boot) -> None:
    node = boot(DEMO + "good", memory="256MiB", pids=300)
    limit = node.run(
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    ).text
    assert int(limit) == 256 * 1024**2


def test_no_way_out_by_default(boot: Boot, engine: docker.DockerClient) -> None:
    outside = boot(DEMO + "scratch", network="bridge").how.details["container"]
    address = engine.containers.get(outside).attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    reach = f"timeout 3 bash -c '</dev/tcp/{address}/8080'"
    assert boot(DEMO + "good", network="bridge").run(reach).ok
    assert not boot(DEMO + "good").run(reach).ok
    assert not boot(DEMO + "good", network="none").run(reach).ok


def test_an_image_without_a_shell_gets_one_from_outside(boot: Boot, engine: docker.DockerClient) -> None:
    node = boot(DEMO + "scratch")
    assert node.how.details["shell"] == "busybox from outside"
    assert node.run("ls / | sort").lines[0] == "dev"
    image = engine.images.get(node.candidate.config_digest)
    assert image.attrs["RootFS"]["Layers"] == list(node.candidate.diff_ids)


def test_a_restart_comes_back(boot: Boot) -> None:
    node = boot(DEMO + "good")
    node.run("touch /root/kept; touch /run/lost")
    node.reboot()
    assert node.run("ls /root/kept /run/lost 2>/dev/null").text == "/root/kept"
    assert node.run("systemctl is-system-running").text == "running"


def test_stopping_in_an_orderly_way(boot: Boot) -> None:
    report = boot(DEMO + "scratch").stop()
    assert not report.killed
    assert report.status == 0


def test_a_service_that_ignores_its_signal_is_killed(boot: Boot, make_image: MakeImage) -> None:
    program = "trap '' TERM; while :; do sleep 1; done"
    reference = make_image("deaf", command=["/bin/sh", "-c", program], files={"/bin/sh": BUSYBOX},
                           links={"/bin/sleep": "sh"})  # fmt: skip
    report = boot(reference, stop_timeout="1s").stop()
    assert report.killed


def test_nodes_boot_side_by_side(boot: Boot) -> None:
    with ThreadPoolExecutor(3) as pool:
        nodes = list(pool.map(lambda _: boot(DEMO + "scratch"), range(3)))
    assert len({node.how.details["container"] for node in nodes}) == 3


def test_strict_mode_agrees_with_a_process_of_its_own(boot: Boot) -> None:
    node = boot(DEMO + "good", strict=True)
    result = node.run("printf 'a\\000b'; echo err >&2; exit 7")
    assert (result.status, result.stdout, result.stderr) == (7, b"a\0b", b"err\n")


def test_time_outs_and_floods_leave_the_node_alive(boot: Boot) -> None:
    node = boot(DEMO + "good")
    with pytest.raises(CommandTimeout):
        node.run("sleep 600", timeout=0.5)
    with pytest.raises(OutputLimit):
        node.run("cat /dev/zero")
    assert node.run("pgrep -c sleep").text == "0"


def test_parallel_shells(boot: Boot) -> None:
    node = boot(DEMO + "good")
    shells = [node.open_shell() for _ in range(3)]
    started = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        assert [r.text for r in pool.map(lambda s: s.run("sleep 1; echo done"), shells)] == ["done"] * 3
    assert time.monotonic() - started < 2.9
    for shell in shells:
        shell.close()


def test_a_removed_container_is_a_lost_node(boot: Boot, engine: docker.DockerClient) -> None:
    node = boot(DEMO + "scratch")
    engine.containers.get(node.how.details["container"]).remove(force=True)
    with pytest.raises(NodeLost, match="its container was removed"):
        node.run("true")


def test_a_container_out_of_memory_is_a_lost_node_or_a_failed_command(boot: Boot) -> None:
    node = boot(DEMO + "good", memory="64MiB")
    result = node.run("tail -c 500M /dev/zero | cat >/dev/null; echo status $?")
    assert result.ok or result.status == 137


@pytest.mark.parametrize(
    ("name", "recipe", "says"),
    [
        ("exits", {"entrypoint": ["/web"], "files": {"/web": {"program": "web", "mode": "0755"}}}, "exit code 2"),
        ("gone", {"entrypoint": ["/no/such/program"], "files": {"/x": {"content": "x"}}}, "refused"),
        (
            "never",
            {
                "entrypoint": ["/web", "8080", "1"],
                "ports": ["9/tcp"],
                "files": {"/web": {"program": "web", "mode": "0755"}},
            },
            "still waiting for port 9/tcp",
        ),
    ],
)
def test_what_does_not_boot_says_why_and_leaves_nothing(
    boot: Boot, make_image: MakeImage, name: str, recipe: dict[str, object], says: str
) -> None:
    with pytest.raises(CertifyError, match=says) as caught:
        boot(make_image(name, **recipe), boot_timeout="2s")
    assert isinstance(caught.value, BootFailed | GuestFailed)


def test_the_last_words_are_printable(boot: Boot, make_image: MakeImage) -> None:
    program = "printf '\\033]0;owned\\007\\033[31mred\\n'; exit 3"
    reference = make_image("escapes", command=["/bin/sh", "-c", program], files={"/bin/sh": BUSYBOX})
    with pytest.raises(GuestFailed, match="exit code 3") as caught:
        boot(reference)
    assert "\x1b" not in caught.value.message
    assert "red" in caught.value.message


@pytest.mark.parametrize(
    ("command", "mode"),
    [
        (["/sbin/init"], "init"),
        (["/lib/systemd/systemd"], "init"),
        ([], "idle"),
        (["bash"], "idle"),
        (["/bin/sh"], "idle"),
        (["/bin/sh", "-c", "serve"], "service"),
        (["nginx", "-g", "daemon off;"], "service"),
    ],
)
def test_the_mode_is_read_off_the_config(command: list[str], mode: str) -> None:
    from certify.images.candidate import ImageConfig

    assert detect(ImageConfig(cmd=tuple(command))) == mode


def test_the_mode_can_be_set() -> None:
    source = Resolver(Plugins().transports(Config())).open(DEMO + "scratch")
    platform = Plugins().platforms(Config())[0]
    assert "service" in platform.offers(source.candidate)
    assert "service" not in DockerPlatform(ContainerSettings(mode="init")).offers(source.candidate)


@pytest.fixture
def no_inotify() -> Iterator[None]:
    """Nobody on this host gets an inotify instance meanwhile."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    before = limit.read_text()
    try:
        limit.write_text("0\n")
    except OSError as error:
        pytest.skip(f"{limit} cannot be set here: {error.strerror}")
    yield
    limit.write_text(before)


@pytest.mark.deep
@pytest.mark.usefixtures("no_inotify")
def test_an_image_is_not_blamed_for_what_its_host_is_short_of(boot: Boot) -> None:
    with pytest.raises(BootFailed, match="this host has no inotify instances left") as caught:
        boot(DEMO + "good", boot_timeout="15s")
    assert "sysctl" in caught.value.hint
