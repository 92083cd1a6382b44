"""pytest-testinfra's own module tests, on a container by its docker backend and on a node of ours: the same answers, as fast."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import time
from importlib.metadata import version

import docker
import pytest

from certify.images.candidate import ImageConfig
from certify.testing.local import FakeSource
from certify_docker.boot_mode import plan
from certify_docker.cgroup import Engine, remove_group
from tests.integration.conftest import DEMO, Workspace

CONFTEST = """
import pytest

def pytest_configure(config):
    config.addinivalue_line("markers", "testinfra_hosts(*names): upstream's")
    config.addinivalue_line("markers", "destructive: upstream's and ours")

@pytest.fixture
def docker_image():
    return "debian_bookworm"
"""
#: These ask which backend it is, and expect other things of one that is not called docker.
ASKS_FOR_DOCKER = {"test_socket"}


def outcomes(text: str) -> dict[str, str]:
    """Outcome by name and parameters, whatever stands for the host."""
    found = {}
    for outcome, name in re.findall(r"^(PASSED|FAILED|ERROR) mods[./]test_modules(?:.py)?::(\S+)", text, re.MULTILINE):
        found[re.sub(r"-?(certify-demo-container|docker://[0-9a-f]+)-?", "", name).replace("[]", "")] = outcome
    return found


@pytest.mark.slow
def test_upstreams_module_tests_get_the_same_answers(work: Workspace, engine: docker.DockerClient) -> None:
    source = [
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--no-binary",
        ":all:",
        f"pytest-testinfra=={version('pytest-testinfra')}",
    ]
    subprocess.run([sys.executable, "-m", *source, "-d", str(work.path)], check=True, capture_output=True)
    with tarfile.open(next(work.path.glob("*.tar.gz"))) as archive:
        member = next(m for m in archive if m.name.endswith("/test/test_modules.py"))
        file = archive.extractfile(member)
        assert file is not None
        work.write("mods/test_modules.py", file.read().decode())
    work.write("mods/conftest.py", CONFTEST)
    theirs, took = peer(work, engine)
    started = time.monotonic()
    done = work.pytest("--image", DEMO + "good", "--suite", "./mods", "-rA", "--tb=no", "-q", timeout=600)
    ours = outcomes(done.out)
    assert len(ours) > 40, done.text
    differ = {name for name in {*ours, *theirs} if ours.get(name) != theirs.get(name)}
    assert {name.partition("[")[0] for name in differ} <= ASKS_FOR_DOCKER
    assert time.monotonic() - started < 1.5 * took + 10, "booting included, on a noisy machine"


def peer(work: Workspace, engine: docker.DockerClient) -> tuple[dict[str, str], float]:
    """The same file by testinfra's docker backend, on a container that runs, started as ours are."""
    from dataclasses import replace

    from certify_docker.settings import ContainerSettings

    candidate = replace(FakeSource().candidate, config=ImageConfig(cmd=("/sbin/init",)))
    boot = plan(candidate, ContainerSettings(), engine=Engine.of(engine.info()), container="certify-test-peer")
    host = engine.api.create_host_config(**boot.host)
    created = engine.api.create_container("certify-demo:good", host_config=host, **boot.create)["Id"]
    try:
        engine.api.start(created)
        running = engine.containers.get(created)
        running.exec_run("systemctl is-system-running --wait")
        started = time.monotonic()
        done = work.pytest(
            f"--hosts=docker://{created}", "mods", "-p", "no:certify", "-rA", "--tb=no", "-q", timeout=600
        )
        return outcomes(done.out), time.monotonic() - started
    finally:
        engine.api.remove_container(created, force=True, v=True)
        remove_group(str(boot.host["cgroup_parent"]))
