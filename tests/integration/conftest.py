"""Real things for integration tests: the engine, sample images, small images made for one test, a registry."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.images.builder import Recipe, build

BIN = Path(sys.executable).parent
DEMO = "docker-daemon:certify-demo:"
#: How often each kill test is repeated; `make test-all` says 20.
KILLS = int(os.environ.get("CERTIFY_TEST_KILLS", "4"))


@dataclass(frozen=True)
class Done:
    """A finished command."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass(frozen=True)
class Workspace:
    """A folder of its own, with the commands run in it as a user would."""

    path: Path

    def run(self, *argv: str, timeout: float = 120, **env: str) -> Done:
        environment = {**os.environ, "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1", **env}
        command = [str(BIN / argv[0]), *argv[1:]]
        done = subprocess.run(command, cwd=self.path, capture_output=True, text=True, timeout=timeout, env=environment)
        return Done(done.returncode, done.stdout, done.stderr)

    def pytest(self, *argv: str, timeout: float = 120, **env: str) -> Done:
        return self.run("pytest", *argv, timeout=timeout, **env)

    def certify(self, *argv: str, timeout: float = 120, **env: str) -> Done:
        return self.run("certify", *argv, timeout=timeout, **env)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        with (self.path / "out.log").open("w") as out:
            return subprocess.Popen([str(BIN / argv[0]), *argv[1:]], cwd=self.path, stdout=out, stderr=out, text=True)

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    @property
    def last_run(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.path / ".certify/runs/latest/run.json").read_text())
        return document

    def outcomes(self) -> dict[str, str]:
        """Outcome of what was run, by the check's name without module and target."""
        run = [check for check in self.last_run["checks"] if check["outcome"] != "deselected"]
        return {c["id"].partition("::")[2].partition("[")[0]: c["outcome"] for c in run}


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    (tmp_path / "pytest.ini").write_text("")
    return Workspace(tmp_path)


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=120)
    yield client
    client.close()


def left_behind(client: docker.DockerClient, run_id: str = "") -> list[str]:
    """Containers and networks of certify runs (of one run, if given)."""
    label = f"dev.certify.run={run_id}" if run_id else "dev.certify.run"
    found = [c.name for c in client.containers.list(all=True, filters={"label": label})]
    return found + [n.name for n in client.networks.list(filters={"label": label})]


MakeImage = Callable[..., str]


@pytest.fixture(scope="session")
def make_image(engine: docker.DockerClient) -> Iterator[MakeImage]:
    """Builds a small image from recipe fields; returns its reference in the engine."""
    made: list[str] = []

    def make(name: str, **data: Any) -> str:
        recipe = Recipe(f"demo-test-{name}", data)
        with build(recipe).open("rb") as file:
            engine.images.load(file)
        made.append(f"certify-demo:test-{name}")
        return f"docker-daemon:{made[-1]}"

    yield make
    for tag in made:
        with contextlib.suppress(docker.errors.APIError):
            engine.images.remove(tag, force=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's docker-registry on a free loopback port; yields host:port."""
    folder, port = tmp_path_factory.mktemp("registry"), free_port()
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: 127.0.0.1:{port}}}\nlog: {{level: error}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=1).status == 200, "the registry")
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait()


def wait_for(condition: Callable[[], Any], what: str, timeout: float = 20) -> None:
    """Poll until true; errors count as not yet."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, AssertionError):
            if condition():
                return
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come within {timeout} s")


class EngineProxy:
    """The real engine behind a TCP address that can be cut: a remote engine, and one that dies."""

    def __init__(self, target: str = "/run/docker.sock") -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.url = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            upstream = socket.socket(socket.AF_UNIX)
            upstream.connect(self._target)
            self._connections += [client, upstream]
            for source, sink in ((client, upstream), (upstream, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """The engine is gone: nothing answers, every connection breaks."""
        self._server.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


@pytest.fixture
def engine_proxy() -> Iterator[EngineProxy]:
    proxy = EngineProxy()
    yield proxy
    proxy.cut()


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, and wait."""
    process.send_signal(signal.SIGKILL)
    process.wait()
