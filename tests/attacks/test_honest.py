"""What honest people do passes: a gate that refuses everybody protects nobody."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

import pytest

from tests.attacks.conftest import CONFIG, DEMO, Project
from tests.integration.conftest import Workspace

ROOT = Path(__file__).parents[2]

#: What a suite holds besides, and what pytest is given.
HONEST: dict[str, tuple[dict[str, str], list[str]]] = {
    "nothing more": ({}, []),
    "workers": ({}, ["-n", "2"]),
    "a conftest of its own": (
        {
            "conftest.py": "import pytest\n@pytest.fixture\ndef helped(image): return image\n",
            "test_helped.py": "def test_helped(helped): assert helped.digest\n",
        },
        [],
    ),
    "parameters that it makes": (
        {
            "test_made.py": "def pytest_generate_tests(metafunc):\n"
            "    'made' in metafunc.fixturenames and metafunc.parametrize('made', [1, 2])\n"
            "def test_made(image, made): assert made\n"
        },
        [],
    ),
    "a skip that it names": (
        {"test_skip.py": "import pytest\ndef test_skip(image): pytest.skip('the image has no ssh server')\n"},
        [],
    ),
    "a reason that looks like a secret": (
        {"test_s.py": "import pytest\ndef test_s(image): pytest.skip('it has no password: nothing to compare')\n"},
        [],
    ),
}


@pytest.mark.parametrize("way", ["nothing more", *(pytest.param(w, marks=pytest.mark.deep) for w in [*HONEST][1:])])
def test_an_honest_run_passes(passing: Project, way: str) -> None:
    files, arguments = HONEST[way]
    for name, text in files.items():
        passing.write(f"checks/{name}", text)
    if files:
        assert passing.work.certify("lock").status == 0
    done = passing.run(*arguments)
    assert done.status == 0, done.text
    passing.allowed()


def test_the_same_image_twice_is_one_target(passing: Project) -> None:
    assert passing.run("--image", "certify-demo:scratch", "--platform", "container,container").status == 0
    assert passing.verdict == "PASSED"


@pytest.mark.deep
def test_an_ordinary_installation_passes(work: Workspace, tmp_path: Path) -> None:
    """Not an editable one: the suites lie among installed packages, and their conftest files are no foreign code."""
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    subprocess.run([programs / "pip", "install", "-q", ROOT], check=True, capture_output=True, timeout=600)
    work.write("certify.yaml", CONFIG.replace("checks", "baseline").replace("./", ""))

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([programs / command[0], *command[1:]], cwd=work.path, capture_output=True, text=True)

    assert run("certify", "init").returncode == 0
    done = run("pytest", "--image", f"{DEMO}good", "--sign", "-q")
    assert done.returncode == 0, done.stdout
    done = run("certify", "gate", f"{DEMO}good", "--channel", "staging")
    assert done.returncode == 0, done.stdout
