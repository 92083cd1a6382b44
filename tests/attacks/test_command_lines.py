"""Command lines that could make less, or something else, of a suite are refused before anything is collected."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attacks.conftest import BAD, IMAGE, Project
from tests.attacks.test_foreign_code import PATCH
from tests.integration.conftest import wait_for

#: A fixture of the suite that fails what the suite's checks alone would pass.
OWN_CONFTEST = (
    "import pytest\n@pytest.fixture(autouse=True)\ndef user(image):\n    yield\n    assert image.config.user == 'app'\n"
)


@pytest.mark.deep
@pytest.mark.parametrize("option", ["--noconftest", "--confcutdir=checks/sub"])
def test_a_suites_own_conftest_is_not_left_out(passing: Project, option: str) -> None:
    passing.write("checks/conftest.py", OWN_CONFTEST)
    passing.write("checks/sub/__init__.py", "")
    assert passing.work.certify("lock").status == 0
    assert passing.run(option).status == 4
    assert passing.run().status == 1
    passing.refused("failed")


@pytest.mark.deep
@pytest.mark.parametrize(
    "spec", ["popen//python=./py", "ssh=localhost", "socket=127.0.0.1:1", "popen//env:PYTHONPATH=."]
)
def test_workers_are_plain_ones(failing: Project, spec: str) -> None:
    done = failing.run("--dist", "load", "--tx", spec)
    assert done.status == 4, done.text
    assert "use -n N" in done.err


def test_nothing_is_signed_that_was_only_listed(failing: Project) -> None:
    for option in ("--collect-only", "--fixtures", "--fixtures-per-test", "--setup-plan", "--setup-only"):
        assert failing.run(option).status == 4


@pytest.mark.parametrize(
    "option", ["--isolation=check", "--keep-node=always", "--strict-shell", "--platform=vm", "--suite=checks"]
)
def test_certifys_options_are_for_images(passing: Project, option: str) -> None:
    passing.write("checks/test_rm.py", "def test_rm(): open('ran', 'w')\n")
    done = passing.work.pytest("./checks", option)
    assert done.status == 4, done.text
    assert not (passing.path / "ran").exists()


def test_destructive_checks_do_not_run_on_the_workstation(passing: Project) -> None:
    passing.write(
        "checks/test_rm.py",
        "import pytest\n@pytest.mark.destructive\ndef test_rm(host): open('ran', 'w')\n",
    )
    done = passing.work.pytest("./checks")
    assert done.status == 4, done.text
    assert "would run on this machine" in done.err
    assert not (passing.path / "ran").exists()


#: What lies in the current folder where ``python -m pytest`` looks first.
SHADOWS = {
    "pytest itself": {
        "pytest.py": "import sys\nsys.path.remove(__import__('os').getcwd()) if __import__('os').getcwd() in sys.path else None\n"
        "del sys.modules['pytest']\nimport pytest\n" + PATCH + "sys.exit(pytest.main(sys.argv[1:]))\n"
    },
    "a module that pytest needs": {
        "iniconfig.py": "import sys\nwhere = sys.path.pop(0)\ndel sys.modules['iniconfig']\nimport iniconfig as real\n"
        "sys.modules['iniconfig'] = real\n" + PATCH + "sys.path.insert(0, where)\n"
    },
    "a package's metadata": {
        "evil-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: allure-pytest\nVersion: 1.0\n",
        "evil-1.0.dist-info/entry_points.txt": "[pytest11]\nevil = evil\n",
        "evil.py": PATCH + "import sys, types\nsys.modules[__name__] = types.ModuleType('pytest')\n",
    },
    "what Python compiled in a suite": {
        "checks/__pycache__/evil.py": PATCH + "class Cat(Warning): pass\n",
        "checks/__init__.py": "",
    },
}


def as_module(project: Project, *arguments: str, python: tuple[str, ...] = ()) -> int:
    command = [sys.executable, *python, "-m", "pytest", "--image", IMAGE, "--sign", "-q", *arguments]
    return subprocess.run(command, cwd=project.path, capture_output=True, timeout=120).returncode


@pytest.mark.deep
@pytest.mark.parametrize("what", SHADOWS)
def test_what_the_current_folder_shadows_is_seen(failing: Project, what: str) -> None:
    for name, text in SHADOWS[what].items():
        failing.write(name, text)
    if "checks/__init__.py" in SHADOWS[what]:
        assert failing.work.certify("lock").status == 0
    more = ["-W", "ignore::checks.__pycache__.evil.Cat"] if what.startswith("what") else []
    as_module(failing, *more)
    failing.refused("took part", "failed", "never certified", "no valid certificate")


@pytest.mark.deep
def test_an_honest_module_run_passes(passing: Project) -> None:
    passing.write("app/__init__.py", "")
    passing.write("setup.py", "")
    passing.write("app.egg-info/entry_points.txt", "[console_scripts]\napp = app:main\n")
    assert as_module(passing) == 0
    passing.allowed()


@pytest.mark.deep
def test_a_place_for_compiled_files_on_the_command_line_is_seen(failing: Project) -> None:
    as_module(failing, python=("-X", "pycache_prefix=compiled"))
    failing.refused("took part", "failed")
    assert any(part["name"] == "-X pycache_prefix=compiled" for part in failing.work.last_run["code"])


@pytest.mark.deep
def test_what_workers_load_is_told_past_the_code_that_they_load(failing: Project) -> None:
    (failing.path / "conftest.py").unlink(missing_ok=True)
    failing.write(
        "deeper/conftest.py",
        PATCH + "import pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_collection_finish(session):\n"
        "    for plugin in session.config.pluginmanager.get_plugins():\n        getattr(plugin, '_loaded', []).clear()\n"
        "    import pytest_certify.session as s\n    s.parts = lambda *a: []\n",
    )
    (failing.path / "checks").rename(failing.path / "deeper/checks")
    config = (failing.path / "certify.yaml").read_text()
    failing.write("certify.yaml", config.replace("./checks", "./deeper/checks"))
    assert failing.work.certify("lock").status == 0
    failing.run("-n", "1")
    failing.refused("took part", "failed")


@pytest.mark.deep
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_failure_counts_before_its_teardown_ends(failing: Project, end: int) -> None:
    config = (failing.path / "certify.yaml").read_text()
    failing.write("certify.yaml", config.replace(", max_failed_runs: 99", ""))
    failing.write(
        "checks/test_bad.py",
        "import pytest, time\n@pytest.fixture\ndef slow():\n    yield\n    open('failed', 'w')\n    time.sleep(30)\n"
        + BAD.replace("(image)", "(image, slow)"),
    )
    assert failing.work.certify("lock").status == 0
    script = str(Path(sys.executable).with_name("pytest"))
    run = subprocess.Popen(
        [script, "--image", IMAGE, "--sign", "-q"],
        cwd=failing.path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for((failing.path / "failed").exists, "the failure")
    os.kill(run.pid, end)
    run.wait(60)
    wait_for(lambda: list((failing.path / ".certify/certificates").rglob("*.json")), "the certificate")
    failing.refused("failed")


@pytest.mark.deep
def test_variables_that_bring_no_code_bar_nothing(passing: Project) -> None:
    harmless = {
        "PYTHON_VERSION": "3.12.1", "PYTHON_SHA256": "0" * 64, "PY_COLORS": "1", "PYTHONFAULTHANDLER": "1",
        "PYTHONWARNINGS": "default", "PYTHONSTARTUP": "/nowhere",
    }  # fmt: skip
    assert passing.run(**harmless).status == 0
    passing.allowed()


@pytest.mark.deep
@pytest.mark.parametrize("left", [".pytest_cache/README.md", ".mypy_cache/x", ".#test_good.py", ".git/HEAD"])
def test_what_tools_leave_in_a_suite_is_no_part_of_it(passing: Project, left: str) -> None:
    path = passing.path / "checks" / left
    path.parent.mkdir(exist_ok=True)
    path.symlink_to("nobody@nowhere.1") if left.startswith(".#") else path.write_text("x")
    assert passing.run().status == 0
    passing.allowed()


@pytest.mark.deep
@pytest.mark.parametrize(
    ("check", "status"),
    [
        ("def test_x(image): return image.config.user == 'app'\n", 1),
        ("def test_x(image): assert (image.config.user == 'app', 'the user')\n", 4),
        ("import pytest\n@pytest.mark.parametrize('path', [])\ndef test_x(image, path): assert path\n", 4),
    ],
)
def test_mistakes_of_a_first_day_are_no_passes(passing: Project, check: str, status: int) -> None:
    passing.write("checks/test_x.py", check)
    locked = passing.work.certify("lock")
    assert (locked.status == 0) is (status == 1), locked.text
    assert passing.run().status == status
    if status == 1:
        passing.refused("failed")


@pytest.mark.deep
def test_two_suites_do_not_share_a_module(failing: Project) -> None:
    """The first one's would be loaded for both."""
    failing.write("aaa/expected.py", "USER = '65532'\n")
    failing.write("aaa/test_a.py", "from expected import USER\ndef test_a(image): assert USER\n")
    failing.write("checks/expected.py", "USER = 'app'\n")
    failing.write("checks/test_bad.py", "from expected import USER\n" + BAD.replace('"app"', "USER"))
    config = (failing.path / "certify.yaml").read_text()
    failing.write("certify.yaml", config.replace("suites: [./checks]", "suites: [./aaa, ./checks]"))
    assert failing.work.certify("lock").status == 2
    done = failing.run("--suite", "./aaa", "--suite", "./checks")
    assert done.status == 4, done.text
    assert "both have a module expected.py" in done.err
