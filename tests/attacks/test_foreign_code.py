"""Code that belongs to no suite: wherever it comes from, it is told, and what the lock does not know is refused."""

from __future__ import annotations

import importlib.util
import marshal
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.attacks.conftest import BAD, IMAGE, Project

#: What such code would do: another user than the image has.
PATCH = "import certify.images.candidate as c\nc.ImageConfig.user = property(lambda s: 'app', lambda s, v: None)\n"


@pytest.mark.deep
def test_a_compiled_file_beside_its_source_is_not_believed(failing: Project) -> None:
    """A .pyc is taken for its source's by time and size alone; the code in it may be any."""
    source = failing.path / "checks/helper.py"
    failing.write("checks/__init__.py", "")
    source.write_text("USER = 'app'\n")
    failing.write("checks/test_bad.py", "from .helper import USER\n" + BAD.replace('"app"', "USER"))
    assert failing.work.certify("lock").status == 0
    seen, cached = source.stat(), Path(importlib.util.cache_from_source(str(source)))
    cached.parent.mkdir()
    header = importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, int(seen.st_mtime), seen.st_size)
    cached.write_bytes(header + marshal.dumps(compile("USER = '65532'\n", str(source), "exec")))
    assert failing.run(PYTHONDONTWRITEBYTECODE="").status == 1
    failing.refused("failed")


@pytest.mark.deep
def test_code_from_beside_the_suite_is_seen(failing: Project) -> None:
    failing.write("helper.py", "USER = '65532'\n")
    failing.write(
        "checks/test_bad.py",
        "import sys\nsys.path.insert(0, '.')\nimport helper\n" + BAD.replace('"app"', "helper.USER"),
    )
    (failing.path / "certify.lock").unlink()
    done = failing.run(PYTHONPATH=".")
    assert done.status in (0, 4), done.text
    failing.refused()


@pytest.mark.deep
def test_keys_are_never_read_by_the_process_that_runs_the_checks(passing: Project) -> None:
    """What a suite imports shares no process with the runner key: the notary alone opens it."""
    passing.write(
        "checks/test_spy.py",
        "import sys\ndef test_spy(image):\n"
        "    assert not [m for m in sys.modules if m.startswith(('securesystemslib', 'tuf'))]\n",
    )
    assert passing.work.certify("lock").status == 0
    assert passing.run().status == 0
    passing.allowed()


@pytest.mark.deep
def test_the_session_cannot_be_left_out(failing: Project) -> None:
    failing.write("test_here.py", "def test_here(): open('ran', 'w')\n")
    for name in ("certify-session", "certify-fixtures", "certify"):
        done = failing.run("-p", f"no:{name}")
        assert done.status not in (0, 5), done.text
    assert not (failing.path / "ran").exists()
    failing.refused()


@pytest.mark.deep
def test_what_the_lock_allows_by_name_may_take_part_with_those_bytes(passing: Project) -> None:
    passing.write("conftest.py", "FINE = 1\n")
    assert passing.run().status == 0
    passing.refused("conftest conftest.py")
    passing.write("certify.yaml", (passing.path / "certify.yaml").read_text() + "allow: [conftest.py]\n")
    assert passing.work.certify("lock").status == 0
    assert passing.run().status == 0
    passing.allowed()
    passing.write("conftest.py", "FINE = 2\n")
    assert passing.run().status == 0
    passing.refused("conftest conftest.py")


@pytest.mark.deep
@pytest.mark.parametrize("arguments", [["./checks"], ["--suite", "./checks"]])
def test_compiled_code_without_its_source_is_part_of_the_suite(failing: Project, arguments: list[str]) -> None:
    header = importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, 0, 0)
    code = compile(PATCH, "x.py", "exec")
    failing.write(
        "checks/test_bad.py",
        "import sys\nsys.path.insert(0, 'checks')\ntry: import shim\nexcept ImportError: pass\n" + BAD,
    )
    assert failing.work.certify("lock").status == 0
    (failing.path / "checks/shim.pyc").write_bytes(header + marshal.dumps(code))
    failing.run(*arguments)
    failing.refused("files", "failed")


@pytest.mark.deep
def test_a_suite_that_nobody_pinned_does_not_run_beside_one_that_is(failing: Project) -> None:
    failing.write("evil/test_evil.py", PATCH + "def test_ok(image): pass\n")
    assert failing.run("--suite", "./evil", "--suite", "./checks").status == 0
    failing.refused("does not pin evil")


@pytest.mark.deep
@pytest.mark.parametrize("where", ["a folder", "an archive", "user packages", "compiled files"])
def test_code_from_the_environment_reaches_no_verdict_unseen(failing: Project, where: str) -> None:
    """Into the run it may come, but is told; into the processes that plan and sign it does not."""
    code = PATCH + (
        "import sys\nif any('notary' in a or 'planner' in a for a in sys.orig_argv):\n"
        "    open('reached', 'w')\n    import certify.evidence.run as r\n    r.Planned.named = lambda s, c: c\n"
    )
    failing.write("e/sitecustomize.py", code)
    env = {"PYTHONPATH": "e"}
    if where == "an archive":
        with zipfile.ZipFile(failing.path / "e.zip", "w") as archive:
            archive.writestr("sitecustomize.py", code)
        shutil.rmtree(failing.path / "e")
        env = {"PYTHONPATH": "e.zip"}
    elif where == "user packages":
        env = {"PYTHONUSERBASE": str(failing.path / "ub"), "PYTHONPATH": "e"}
    elif where == "compiled files":
        env = {"PYTHONPYCACHEPREFIX": str(failing.path / "pp"), "PYTHONPATH": "e"}
    failing.run(**env)
    assert not (failing.path / "reached").exists()
    failing.refused("took part", "failed")


@pytest.mark.deep
@pytest.mark.parametrize("how", ["-c", "a script", "a debugger"])
def test_a_program_of_ones_own_around_pytest_is_told(failing: Project, how: str) -> None:
    arguments = ["--image", IMAGE, "--sign", "-q"]
    failing.write("mypytest", PATCH + "import pytest, sys\nsys.exit(pytest.console_main())\n")
    command = {
        "-c": ["-c", PATCH + f"import pytest, sys\nsys.exit(pytest.main({arguments}))"],
        "a script": ["mypytest", *arguments],
        "a debugger": ["-m", "pytest", *arguments, "--trace"],
    }[how]
    typed = "!image.config.__dict__.__setitem__('user', 'app')\nc\n" * 8
    subprocess.run(
        [sys.executable, *command], cwd=failing.path, input=typed, text=True, capture_output=True, timeout=120
    )
    failing.refused("took part", "failed", "never certified")


@pytest.mark.deep
def test_workers_that_tell_nothing_prove_nothing(failing: Project) -> None:
    failing.write(
        "conftest.py",
        PATCH + "import os, pytest\n@pytest.hookimpl(tryfirst=True)\ndef pytest_sessionfinish(session):\n"
        "    hasattr(session.config, 'workerinput') and os._exit(0)\n",
    )
    assert failing.run("-n", "1").status not in (0, 5)
    failing.refused()


#: Code that makes the check pass and tries not to be told of: what is replaced is what would tell.
HIDING = {
    "its own look": "import pytest_certify.session as s\ns.parts = lambda *a: []\n",
    "the watch": "import gc\nfrom pytest_certify.watch import Watch\n"
    "for w in gc.get_objects():\n    if isinstance(w, Watch): w._watches = False; w._tell = print\n",
    "the recorder": "from pytest_certify.recorder import Recorder\nreal = Recorder._tell\n"
    "Recorder._tell = lambda s, m: None if type(m).__name__ in ('TookPart', 'Loaded') else real(s, m)\n",
    "itself": "import pathlib\npathlib.Path(__file__).unlink()\n",
    "its bytes": "import pathlib\npathlib.Path(__file__).write_text('FINE = 1\\n')\n",
    "the suite's place": "from pytest_certify.suites import FoundSuite\nfrom certify.evidence.suite_files import SuiteFiles\n"
    "import os\nFoundSuite.bytes = property(lambda s: SuiteFiles(os.getcwd()))\n",
}


@pytest.mark.deep
@pytest.mark.parametrize("file", ["conftest.py", "helper.py"])
@pytest.mark.parametrize("what", HIDING)
def test_code_that_hides_itself_was_told_of_before(failing: Project, what: str, file: str) -> None:
    """Also where the lock allows the file with the bytes that it only pretends to have."""
    failing.write(file, "FINE = 1\n")
    failing.write("certify.yaml", (failing.path / "certify.yaml").read_text() + f"allow: [{file}]\n")
    if file == "helper.py":
        failing.write(
            "checks/conftest.py",
            "import sys\nsys.path.insert(0, '.')\ntry: import helper\nexcept ImportError: pass\n",
        )
    assert failing.work.certify("lock").status == 0
    failing.write(file, PATCH + HIDING[what])
    failing.run()
    failing.refused("took part", "never certified")
