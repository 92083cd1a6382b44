"""Rollouts on a real engine: replaced one by one, returned on failure, gone on with after SIGKILL."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

import docker
import pytest

from tests.integration.conftest import KILLS, MakeImage, Workspace, free_port, kill, wait_for

WEB = {"/web": {"program": "web", "mode": "0755"}}
CONFIG = """
product: app
suites: [./ours]
channels:
  staging: {requires: {suites: [ours]}}
"""


@dataclass
class Fleet:
    """A project with signed images and a fleet of two."""

    work: Workspace
    engine: docker.DockerClient
    images: dict[str, str]
    name: str
    ports: tuple[int, int]

    def promote(self, version: str) -> None:
        done = self.work.certify("promote", self.images[version], "--to", "staging")
        assert done.status == 0, done.text

    def deploy(self, *more: str, status: int = 0) -> str:
        done = self.work.certify("deploy", "staging", "--fleet", "fleet.yaml", "--yes", *more)
        assert done.status == status, done.text
        return done.text

    def serving(self) -> list[str]:
        return [ask(port) for port in self.ports]

    def containers(self, role: str = "") -> list[str]:
        labels = [f"dev.certify.fleet={self.name}", *([f"dev.certify.role={role}"] if role else [])]
        return [c.name for c in self.engine.containers.list(all=True, filters={"label": labels})]


def ask(port: int) -> str:
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2).read().decode().strip()
    except OSError as error:
        return f"error {error}"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, make_image: MakeImage) -> tuple[Workspace, dict[str, str]]:
    """Three signed versions of a small service; the third one is unhealthy."""
    work = Workspace(tmp_path_factory.mktemp("rollout"))
    work.write("pytest.ini", "")
    work.write("certify.yaml", CONFIG)
    work.write("ours/test_ours.py", "def test_web(node): assert node.run('true').ok\n")
    work.certify("init")
    arguments = {"1": ["8080", "1"], "2": ["8080", "2"], "3": ["8080", "3", "unhealthy"]}
    images = {
        v: make_image(f"fleet{v}", entrypoint=["/web", *a], ports=["8080/tcp"], user="1000", files=WEB)
        for v, a in arguments.items()
    }
    comes_back = "case $HOSTNAME in a|b) sleep 1; exit 3;; esac; exec sleep 600"  # it ends, as an instance only
    files = {path: {"copy": "/usr/bin/busybox", "mode": "0755"} for path in ("/bin/sh", "/bin/sleep")}
    images["4"] = make_image("fleet4", entrypoint=["/bin/sh", "-c", comes_back], user="1000", files=files)
    done = work.pytest(
        *(x for image in images.values() for x in ("--image", image)), "--suite", "./ours", "--sign", "-q"
    )
    assert done.status == 0, done.text
    return work, images


@pytest.fixture
def fleet(
    project: tuple[Workspace, dict[str, str]], engine: docker.DockerClient, request: pytest.FixtureRequest
) -> Iterator[Fleet]:
    work, images = project
    name = f"t{free_port()}"
    made = Fleet(work, engine, images, name, (free_port(), free_port()))
    work.write(
        "fleet.yaml",
        f"fleet: {name}\nproduct: app\n"
        "health: {port: 8080, path: /healthz, interval: 50ms, successes: 2, start_period: 2s, soak: 200ms}\n"
        "platform: {network: bridge, memory: 64MiB}\n"
        f"instances:\n- {{name: a, publish: {{{made.ports[0]}: 8080}}}}\n- {{name: b, publish: {{{made.ports[1]}: 8080}}}}\n",
    )
    yield made
    for container in made.containers():
        with contextlib.suppress(docker.errors.APIError):
            engine.containers.get(container).remove(force=True, v=True)


def test_from_nothing_then_to_the_next_version(fleet: Fleet) -> None:
    fleet.promote("1")
    plan = json.loads(fleet.work.certify("deploy", "staging", "--fleet", "fleet.yaml", "--dry-run", "--json").out)
    assert [i["changes"] for i in plan["instances"]] == [True, True]
    assert fleet.containers() == []
    fleet.deploy()
    assert fleet.serving() == ["certify-demo 1"] * 2
    fleet.promote("2")
    said = fleet.deploy()
    assert fleet.serving() == ["certify-demo 2"] * 2
    assert said.index("a                soak          ok") < said.index("b                provision")
    assert len(fleet.containers("serving")) == 2
    assert fleet.containers("proof") == []
    running = fleet.engine.containers.get(fleet.containers("serving")[0])
    assert running.attrs["Image"] == fleet.engine.images.get(fleet.images["2"].removeprefix("docker-daemon:")).id
    assert "done" in fleet.deploy(), "nothing to do is done at once"


def test_the_old_one_serves_until_the_new_one_has_been_proven(fleet: Fleet) -> None:
    fleet.promote("1")
    fleet.deploy()
    fleet.promote("3")
    seen: set[str] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.update(fleet.serving())

    thread = threading.Thread(target=watch)
    thread.start()
    said = fleet.deploy(status=1)
    done.set()
    thread.join()
    assert "rolled-back" in said
    assert "HTTP status 500" in said
    assert seen == {"certify-demo 1"}, "not one request was answered by anything else"
    assert len(fleet.containers()) == 2


def test_a_failed_digest_is_quarantined(fleet: Fleet) -> None:
    fleet.promote("1")
    fleet.deploy()
    fleet.promote("3")
    fleet.deploy(status=1)
    assert "failed on fleet" in fleet.deploy(status=2)
    assert "rolled-back" in fleet.deploy("--retry-quarantined", status=1)
    status = fleet.work.certify("rollout", "status", "--json")
    mine = [r for r in json.loads(status.out)["rollouts"] if r["plan"]["fleet"] == fleet.name]
    assert [r["status"] for r in mine] == ["rolled-back", "rolled-back", "done"]
    one = fleet.work.certify("rollout", "status", mine[0]["id"])
    assert "validate" in one.out
    assert "HTTP status 500" in one.out


def test_a_process_that_comes_back_between_two_looks_is_no_health(fleet: Fleet) -> None:
    """Without a port to ask, a container that its engine starts again and again seems to run."""
    file = fleet.work.path / "fleet.yaml"
    text = file.read_text().replace("port: 8080, path: /healthz, ", "").replace("soak: 200ms", "soak: 4s")
    file.write_text(text)
    fleet.promote("4")
    said = fleet.deploy(status=1)
    assert "rolled-back" in said
    assert "ends again and again" in said or "has ended with exit code 3" in said
    assert fleet.containers() == []


def test_a_first_deployment_that_fails_leaves_nothing(fleet: Fleet) -> None:
    fleet.promote("3")
    fleet.deploy(status=1)
    assert fleet.containers() == []


def test_a_failure_at_the_second_instance_returns_the_first(fleet: Fleet) -> None:
    fleet.promote("1")
    fleet.deploy()
    fleet.promote("2")
    import socket

    # Something else takes the port of b the moment it is free: admitting b fails, after a was moved.
    stop = threading.Event()

    def steal() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", fleet.ports[1])):
                stop.wait(3)

    thread = threading.Thread(target=steal)
    thread.start()
    said = fleet.work.certify("deploy", "staging", "--fleet", "fleet.yaml", "--yes")
    stop.set()
    thread.join()
    assert said.status == 1, said.text
    assert ask(fleet.ports[0]) == "certify-demo 1"
    if "stuck" in said.text:
        return  # the thief kept the port, so b could not return: that needs a person, and it says so
    assert fleet.serving() == ["certify-demo 1"] * 2


def test_unverified_channels_are_not_deployed(fleet: Fleet) -> None:
    fleet.promote("1")
    timestamp = fleet.work.path / ".certify/trust/metadata/timestamp.json"
    before = timestamp.read_text()
    timestamp.write_text(before.replace('"version":', '"version":9'))
    try:
        assert "does not verify" in fleet.deploy(status=1)
    finally:
        timestamp.write_text(before)
    assert fleet.containers() == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("instances:", "instnces:", "instnces: no such setting"),
        ("product: app", "product: other", "runs other, certify.yaml is about app"),
        ("start_period: 2s", "start_period: 10ms", "do not fit into a start period"),
        ("port: 8080", "port: 9", "does not publish"),
        ("driver", "driver", ""),
    ],
)
def test_mistakes_in_fleet_yaml(fleet: Fleet, old: str, new: str, says: str) -> None:
    fleet.promote("1")
    path = fleet.work.path / "fleet.yaml"
    path.write_text(path.read_text().replace(old, new, 1) if says else "driver: dcker\n" + path.read_text())
    done = fleet.work.certify("deploy", "staging", "--fleet", "fleet.yaml", "--yes")
    assert done.status == 2
    assert (says or "no deploy driver 'dcker'") in done.err
    assert fleet.containers() == []


def test_an_instance_that_is_gone_from_fleet_yaml_in_the_middle(fleet: Fleet) -> None:
    fleet.promote("1")
    process = fleet.work.start("certify", "deploy", "staging", "--fleet", "fleet.yaml", "--yes")
    wait_for(fleet.containers, "the first container")
    kill(process)
    path = fleet.work.path / "fleet.yaml"
    whole = path.read_text()
    path.write_text("\n".join(line for line in whole.splitlines() if "name: b" not in line))
    assert "fleet.yaml no longer has its instance b" in fleet.deploy(status=2)
    path.write_text(whole)
    fleet.deploy()
    assert fleet.serving() == ["certify-demo 1"] * 2


def test_nobody_to_ask(fleet: Fleet) -> None:
    fleet.promote("1")
    done = fleet.work.certify("deploy", "staging", "--fleet", "fleet.yaml")
    assert done.status == 2
    assert "--yes" in done.err


def test_two_deployers_at_once(fleet: Fleet) -> None:
    fleet.promote("1")
    first = fleet.work.start("certify", "deploy", "staging", "--fleet", "fleet.yaml", "--yes")
    wait_for(fleet.containers, "the first one's container")
    assert "another deployer is at work" in fleet.deploy(status=2)
    assert first.wait(timeout=60) == 0
    assert fleet.serving() == ["certify-demo 1"] * 2


@pytest.mark.deep
@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_a_random_moment_and_gone_on_with(fleet: Fleet, number: int) -> None:
    fleet.promote("1")
    fleet.deploy()
    fleet.promote("2")
    process = fleet.work.start("certify", "deploy", "staging", "--fleet", "fleet.yaml", "--yes")
    time.sleep(random.Random(number).uniform(0.4, 3.5))
    kill(process)
    fleet.deploy()
    assert fleet.serving() == ["certify-demo 2"] * 2
    assert len(fleet.containers()) == 2
    assert fleet.work.certify("gc").status == 0
    assert fleet.serving() == ["certify-demo 2"] * 2
    assert len(fleet.containers()) == 2
