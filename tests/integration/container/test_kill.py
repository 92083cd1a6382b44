"""SIGKILL at random moments: the evidence says so, the next command goes on, ``certify gc`` leaves nothing."""

from __future__ import annotations

import contextlib
import random
import time
from pathlib import Path

import docker
import pytest

from tests.integration.conftest import DEMO, KILLS, Workspace, kill, left_behind, wait_for

CHECKS = "import pytest\n" + "".join(
    f"@pytest.mark.destructive\ndef test_d{i}(node): node.run('sleep 0.1')\ndef test_{i}(node): node.run('sleep 0.05')\n"
    for i in range(8)
)


def of_workspace(engine: docker.DockerClient, work: Workspace) -> list[str]:
    """What runs of this workspace have left."""
    runs = (
        [path.name for path in (work.path / ".certify/runs").glob("2*")]
        if (work.path / ".certify/runs").exists()
        else []
    )
    return [name for run in runs for name in left_behind(engine, run)]


@pytest.mark.deep
def test_a_killed_run(work: Workspace, engine: docker.DockerClient) -> None:
    work.write("test_k.py", CHECKS)
    process = work.start("pytest", "--image", DEMO + "good", "test_k.py")
    journal = work.path / ".certify/runs/latest/outcomes.jsonl"
    wait_for(lambda: journal.exists() and journal.read_text().count("\n") >= 2, "two outcomes")
    kill(process)
    assert of_workspace(engine, work) != []
    assert work.last_run["status"] == "running"
    work.certify("init")
    refused = work.certify("bless", ".certify/runs/latest")
    assert refused.status == 2
    assert "is interrupted: there is no verdict to sign" in refused.err
    would = work.certify("gc", "--dry-run")
    assert "would remove container" in would.out
    assert of_workspace(engine, work) != []
    assert work.certify("gc").status == 0
    assert of_workspace(engine, work) == []
    assert work.pytest("--image", DEMO + "scratch", "test_k.py", "-q").status == 0


def test_gc_leaves_living_runs_alone(work: Workspace, engine: docker.DockerClient) -> None:
    work.write(
        "test_k.py",
        "import pathlib, time\ndef test_k(node):\n    while not pathlib.Path('go').exists(): time.sleep(0.05)\n",
    )
    process = work.start("pytest", "--image", DEMO + "scratch", "test_k.py")
    wait_for(lambda: of_workspace(engine, work), "a container")
    assert work.certify("gc").status == 0
    assert of_workspace(engine, work) != []
    (work.path / "go").touch()
    assert process.wait(timeout=60) == 0


@pytest.mark.deep
@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_a_random_moment(work: Workspace, engine: docker.DockerClient, number: int) -> None:
    work.write("test_k.py", CHECKS)
    process = work.start("pytest", "--image", DEMO + "scratch", "test_k.py", *(["-n", "2"] if number % 2 else []))
    time.sleep(random.Random(number).uniform(0.3, 4.0))
    kill(process)
    wait_for(lambda: not running_in(work), "workers to end")
    assert work.certify("gc").status == 0
    assert of_workspace(engine, work) == []
    done = work.pytest("--image", DEMO + "scratch", "test_k.py", "-q", "-k", "test_1")
    assert done.status == 0, done.text


def running_in(work: Workspace) -> list[Path]:
    """Processes in the workspace: xdist workers end by themselves when their controller is gone."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if link.readlink() == work.path:
                found.append(link)
    return found
