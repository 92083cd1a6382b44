"""``certify new`` writes packages that work as they are: installed, they pass their own tests and are found."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.integration.conftest import BIN, DEMO

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment beside ours, which sees what ours has and takes what is installed into it."""
    path = tmp_path_factory.mktemp("new")
    venv.create(path / "venv", symlinks=True)
    site = next((path / "venv").glob("lib/python*/site-packages"))
    ours = next(Path(place) for place in sys.path if place.endswith("site-packages"))
    (site / "ours.pth").write_text(f"import site; site.addsitedir({str(ours)!r})\n")
    return path


def run(place: Path, *argv: str, folder: str = ".") -> subprocess.CompletedProcess[str]:
    python = place / "venv/bin/python"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHON"))}
    return subprocess.run(
        [str(python), *argv], cwd=place / folder, capture_output=True, text=True, env=environment, timeout=300
    )


def install(place: Path, folder: str) -> None:
    done = run(place, "-m", "pip", "install", "-qq", "--no-deps", "--no-build-isolation", ".", folder=folder)
    assert done.returncode == 0, done.stderr


def new(place: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BIN / "certify"), "new", *argv], cwd=place, capture_output=True, text=True)


def test_a_plugin_with_a_setting_of_its_own_passes_its_contract(place: Path) -> None:
    done = new(place, "plugin", "our-box")
    assert done.returncode == 0, done.stderr
    install(place, "our-box")
    done = run(place, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder="our-box")
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    (place / "certify.yaml").write_text("platforms: {our_box: {shell: /bin/bash}}\n")
    assert "our_box" in run(place, "-m", "certify.cli.main", "schema").stdout
    (place / "test_x.py").write_text("def test_x(node): assert node.run('echo $BASH').text == '/bin/bash'\n")
    argv = ["-m", "pytest", "--image", f"{DEMO}scratch", "--platform", "our_box", "test_x.py", "-q"]
    done = run(place, *argv)
    assert done.returncode in (0, 6), done.stdout  # as root its shell is root's; as somebody else it proves nothing
    if os.getuid() == 0:
        assert "1 passed" in done.stdout
    (place / "certify.yaml").write_text("platforms: {our_box: {shel: /bin/bash}}\n")
    done = run(place, *argv)
    assert "certify.yaml:1: platforms.our_box.shel: no such setting" in done.stdout + done.stderr


def test_a_suite_is_planned_whole_and_runs(place: Path) -> None:
    assert new(place, "suite", "our-rules").returncode == 0
    install(place, "our-rules")
    done = run(place, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder="our-rules")
    assert done.returncode == 0, done.stdout
    (place / "certify.yaml").write_text("{}\n")
    done = run(place, "-m", "pytest", "--image", f"{DEMO}good", "--suite", "our-rules", "-q")
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


@pytest.mark.parametrize(("name", "says"), [("Our Box", "cannot name a package"), ("there", "is there already")])
def test_nothing_is_written_over_or_badly_named(place: Path, name: str, says: str) -> None:
    (place / "there").mkdir(exist_ok=True)
    done = new(place, "plugin", name)
    assert done.returncode == 2
    assert says in done.stderr
    assert list((place / "there").iterdir()) == []
