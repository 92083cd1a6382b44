"""What the notary sees for itself of how a run was started, and how what it was told is named."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from certify.evidence.run import Part
from certify.evidence.suite_files import SuiteFiles
from certify.trust.witness import (
    Loaded,
    Witness,
    _interpreters_options,
    _is_isolated,
    _program,
    _shadows,
    as_started,
    loaded,
)

WAIT = "import sys; print(flush=True); sys.stdin.read()"


@contextmanager
def started(*arguments: str, **env: str) -> Iterator[int]:
    """A process of that command line, which does nothing until it is left."""
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**clean(), **env}) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.stdin.close()


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ([], [], {"s.py"}),
        (["-X", "utf8", "-Wignore", "-I"], [], {"s.py"}),
        ([], ["-p", "no:cacheprovider", "-p", "xdist", "-p", "_pytest.pytester"], {"s.py"}),
        ([], ["-p", "evil.inner", "-pother"], {"s.py", "-p evil.inner", "-p other"}),
    ],
)
def test_a_script_and_its_plugins_are_seen(
    tmp_path: Path, before: list[str], after: list[str], names: set[str]
) -> None:
    script = tmp_path / "s.py"
    script.write_text(WAIT)
    with started(*before, str(script), *after) as process:
        found = as_started(process)
        parts = {told.name if isinstance(told, Part) else Path(told.path).name for told in found}
    assert parts == names


@pytest.mark.parametrize("options", [["-c"], ["-Bc"], ["-X", "utf8", "-c"]])
def test_code_on_the_command_line_is_seen(options: list[str]) -> None:
    with started(*options, WAIT) as process:
        assert list(as_started(process)) == [Part(kind="module", name="__main__")]


def test_an_installed_module_is_no_program_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WAIT)
    with started("-m", "mine", PYTHONPATH=str(tmp_path)) as process:
        assert set(as_started(process)) == {
            Part(kind="ini", name="-m mine"),
            Part(kind="ini", name=f"PYTHONPATH={tmp_path}"),
        }
    with started("-um", "pdb", "-c", "continue", str(tmp_path / "mine.py")) as process:
        assert list(as_started(process)) == []


def test_who_gives_itself_out_as_a_worker_is_seen(tmp_path: Path) -> None:
    (tmp_path / "s.py").write_text(WAIT)
    with started(str(tmp_path / "s.py"), PYTEST_XDIST_WORKER="gw0") as process:
        assert Part(kind="ini", name="PYTEST_XDIST_WORKER=gw0") in list(as_started(process))


def test_a_process_that_is_gone_is_not_believed() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    [part] = as_started(gone.pid)
    assert "cannot be looked at" in str(part)


def test_files_are_named_from_where_the_project_is_and_suites_are_left_out(tmp_path: Path) -> None:
    for name in ("conftest.py", "checks/conftest.py", "checks/test_a.py", "lib/helper.py", "lib/beside.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    witness = Witness(os.getpid())
    ours = set(witness.parts([], tmp_path))
    for path in tmp_path.rglob("*.py"):
        witness.take(loaded(str(path)))
    witness.take(Loaded("/gone.zip/x.py"))
    suites = [SuiteFiles(str(tmp_path / "checks")), SuiteFiles("", (str(tmp_path / "lib/beside.py"),))]
    found = {(part.kind, part.name) for part in set(witness.parts(suites, tmp_path)) - ours}
    assert found == {("conftest", "conftest.py"), ("module", "lib/helper.py"), ("module", "/gone.zip/x.py")}


def test_a_file_that_was_changed_is_two(tmp_path: Path) -> None:
    file = tmp_path / "conftest.py"
    witness = Witness(os.getpid())
    for text in ("FINE = 1", "FINE = 2"):
        file.write_text(text)
        witness.take(loaded(str(file)))
    assert len([part for part in witness.parts([], tmp_path) if part.name == "conftest.py"]) == 2


@pytest.mark.parametrize(
    ("options", "isolated"),
    [
        (["-m", "x"], False), (["-P", "-m", "x"], True), (["-Im", "x"], True), (["-BPm", "x"], True),
        (["-Werror::ImportWarning", "-m", "x"], False), (["-W", "-P", "-m", "x"], False), (["-mx", "-rP"], False),
        (["-m", "x", "-P"], False), (["-Xutf8", "s.py", "-I"], False), (["--check-hash-based-pycs", "-P", "-m", "x"], False),
    ],
)  # fmt: skip
def test_only_the_interpreters_own_options_leave_the_current_folder_out(options: list[str], isolated: bool) -> None:
    assert _is_isolated(["python", *options]) is isolated


def test_what_takes_the_name_of_something_installed_is_seen(tmp_path: Path) -> None:
    for name in (
        "json.py",
        "msgspec/__init__.pyc",
        "pytest.so",
        "mine.py",
        "__main__.py",
        "x.egg-info/entry_points.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("[pytest11]\nx = x\n")
    files = [told.path for told in _shadows(tmp_path) if isinstance(told, Loaded)]
    assert {Path(path).relative_to(tmp_path).as_posix() for path in files} == {
        "json.py",
        "msgspec/__init__.pyc",
        "pytest.so",
    }
    assert [told.name for told in _shadows(tmp_path) if isinstance(told, Part)] == ["x.egg-info"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["-X", "pycache_prefix=x", "-m", "pytest"], ["-X pycache_prefix=x"]), (["-Xutf8", "-Bm", "pytest", "-X", "y=1"], []),
        (["-Werror::a.b.C", "s.py"], ["-W error::a.b.C"]), (["-Wignore::XWarning", "s.py"], []),
        (["-BX", "x=1", "-"], ["-X x=1"]),
    ],
)  # fmt: skip
def test_the_interpreters_options_that_choose_code_are_seen(options: list[str], told: list[str]) -> None:
    assert list(_interpreters_options(["python", *options])) == told


def test_code_from_standard_input_is_seen(tmp_path: Path) -> None:
    assert list(_program(["python", "-B", "-"], tmp_path)) == [Part(kind="module", name="__main__")]
