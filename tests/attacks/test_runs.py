"""A run is its plan: whatever leaves a check out, turns its outcome round or puts another in its place, the gate says no."""

from __future__ import annotations

import json

import pytest

from tests.attacks.conftest import BAD, GOOD, IMAGE, Project
from tests.attacks.ways import WAYS
from tests.integration.conftest import wait_for

#: The ways that no `make test` goes without; the others are tried by `make test-deep`.
QUICK = (
    "one check by id",
    "ignore a file",
    "a conftest that drops checks",
    "a conftest that turns failures into passes",
)


@pytest.mark.parametrize("way", [w if w in QUICK else pytest.param(w, marks=pytest.mark.deep) for w in WAYS])
def test_no_way_round_a_check_ends_in_a_yes(failing: Project, way: str) -> None:
    files, more, reason = WAYS[way]
    for name, text in files.items():
        failing.write(name, text)
    if "LOCK" in more:
        assert failing.work.certify("lock").status == 0
    arguments = [argument for argument in more if argument != "LOCK" and not argument.partition("=")[0].isupper()]
    env = dict(
        argument.split("=", 1) for argument in more if argument.partition("=")[0].isupper() and argument != "LOCK"
    )
    done = failing.run(*arguments, **env)
    last = failing.path / ".certify/runs/latest/run.json"
    if last.exists() and reason != "took part":  # code in the same process can make a run say anything, but not unseen
        assert "PASSED" not in failing.work.last_run.get("verdicts", {}).values(), done.text
    failing.refused(reason)


@pytest.mark.deep
def test_workers_run_the_suite_that_was_named(failing: Project) -> None:
    failing.write("other/test_other.py", "def test_fine(image): pass\n")
    assert failing.run("--suite", "./checks", "-n", "2").status == 1
    failing.refused("failed")
    assert {c["suite"] for c in failing.work.last_run["checks"]} == {"checks"}


@pytest.mark.deep
def test_a_worker_that_dies_takes_no_check_with_it(passing: Project) -> None:
    passing.write("checks/test_dies.py", "import os\ndef test_dies(image): os._exit(1)\ndef test_later(image): pass\n")
    assert passing.work.certify("lock").status == 0
    done = passing.run("-n", "2", "--max-worker-restart=0")
    assert done.status not in (0, 5), done.text
    passing.refused()


@pytest.mark.deep
def test_a_module_that_cannot_be_imported_is_no_module_without_checks(failing: Project) -> None:
    failing.write("checks/test_bad.py", "import nothing_of_that_name\n" + BAD)
    done = failing.run("--continue-on-collection-errors")
    assert done.status == 4
    assert "nothing_of_that_name" in done.err
    failing.write("checks/test_bad.py", "import os\nif os.environ.get('X'): raise ImportError('x')\n" + BAD)
    assert failing.work.certify("lock").status == 0
    assert failing.run("--continue-on-collection-errors", X="1").status != 0
    failing.refused()


def test_a_suite_without_an_image_runs_nowhere(failing: Project) -> None:
    """Its checks, destructive ones too, would run on the workstation."""
    failing.write("checks/test_rm.py", "def test_rm(): open('ran', 'w')\n")
    for arguments in (["--suite", "./checks"], ["--suite", "checks", "-n", "2"], ["--sign"], ["--promote", "staging"]):
        done = failing.work.pytest(*arguments)
        assert done.status == 4, done.text
        assert "--image" in done.err
    assert not (failing.path / "ran").exists()


def test_a_check_that_forgot_its_fixtures_counts(passing: Project) -> None:
    passing.write("checks/test_forgot.py", "def test_forgot():\n    assert False\n")
    assert passing.work.certify("lock").status == 0
    assert passing.run().status == 1
    assert passing.verdict == "FAILED"
    passing.refused("failed")


@pytest.mark.deep
@pytest.mark.parametrize("folder", ["certify_suites.baseline", "certify_suites", "baseline", "certify"])
def test_a_folder_cannot_take_an_installed_suites_name(passing: Project, folder: str) -> None:
    passing.write(f"{folder}/test_identity.py", "def test_machine_id_is_unset(image): pass\n")
    for arguments in (["--suite", f"./{folder}"], [folder]):
        done = passing.run(*arguments)
        assert done.status == 4, done.text
    assert passing.work.certify("gate", IMAGE, "--channel", "staging").status == 1


def test_another_suite_of_the_pinned_name_is_refused(failing: Project) -> None:
    """The same folder name elsewhere, with one check that passes."""
    failing.write("elsewhere/checks/test_good.py", GOOD)
    assert failing.run("--suite", "./elsewhere/checks").status == 0
    failing.refused("certify.lock pins")


@pytest.mark.deep
def test_settings_wider_than_the_lock_are_refused(failing: Project) -> None:
    failing.write("checks/__init__.py", "DEFAULTS = {'user': 'app'}\nVERSION = '1'\n")
    failing.write(
        "checks/test_bad.py", "def test_user(image, settings):\n    assert image.config.user == settings['user']\n"
    )
    assert failing.work.certify("lock").status == 0
    assert failing.run().status == 1
    failing.refused("failed")
    config = (failing.path / "certify.yaml").read_text()
    failing.write("wide.yaml", config + "settings: {checks: {user: '65532'}}\n")
    assert failing.run("--certify-config", "wide.yaml").status == 0
    failing.refused("settings user = '65532', pinned 'app'")


@pytest.mark.deep
def test_a_container_set_otherwise_than_the_lock_says_is_refused(passing: Project) -> None:
    config = (passing.path / "certify.yaml").read_text()
    passing.write("wide.yaml", config + "platforms: {container: {mode: idle, network: bridge}}\n")
    assert passing.run("--certify-config", "wide.yaml").status == 0
    passing.refused("mode is 'idle', not 'auto'")


@pytest.mark.deep
def test_python_without_assertions_is_refused(failing: Project) -> None:
    done = failing.run("--assert=plain", PYTHONOPTIMIZE="1")
    assert done.status == 4
    assert "leaves assertions out" in done.err


@pytest.mark.deep
def test_a_suite_that_changes_while_it_runs_proves_nothing(passing: Project) -> None:
    passing.write(
        "checks/test_change.py",
        "import pathlib\ndef test_change(image):\n"
        "    pathlib.Path(__file__).with_name('test_good.py').write_text('def test_digest(image): pass\\n')\n",
    )
    assert passing.work.certify("lock").status == 0
    done = passing.run()
    assert done.status == 6, done.text
    assert "changed while it ran" in done.out
    passing.refused()


@pytest.mark.deep
def test_a_skip_for_an_unlisted_reason_is_no_pass(passing: Project) -> None:
    passing.write("checks/test_skip.py", "import os, pytest\ndef test_skip(image): pytest.skip(os.sep.join('later'))\n")
    assert passing.work.certify("lock").status == 0
    done = passing.run()
    assert done.status == 6, done.text
    assert "reason its plan does not list" in done.out
    passing.refused("skipped for a reason")


@pytest.mark.deep
def test_passing_only_on_a_rerun_is_no_pass(passing: Project) -> None:
    passing.write(
        "checks/test_flaky.py",
        "import pathlib\ndef test_flaky(image):\n    p = pathlib.Path('seen')\n    known = p.exists()\n    p.touch()\n    assert known\n",
    )
    assert passing.work.certify("lock").status == 0
    assert passing.run("--reruns", "2").status == 1
    assert passing.verdict == "WARNED"
    passing.refused("rerun")


@pytest.mark.deep
def test_trying_until_it_is_green_shows(passing: Project) -> None:
    config = (passing.path / "certify.yaml").read_text()
    passing.write("certify.yaml", config.replace(", max_failed_runs: 99", ""))
    passing.write(
        "checks/test_flaky.py",
        "import pathlib\ndef test_flaky(image):\n    p = pathlib.Path('seen')\n"
        "    known = p.exists()\n    p.touch()\n    assert known\n",
    )
    assert passing.work.certify("lock").status == 0
    assert passing.run().status == 1
    assert passing.run().status == 0
    passing.refused("unexplained")
    shown = passing.work.certify("gate", IMAGE, "--channel", "staging", "--json")
    [rule] = [rule for rule in json.loads(shown.out)["rules"] if rule["id"] == "retries"]
    told = passing.work.certify("explain", rule["evidence"][0], "--reason", "the file was made by hand to show this")
    assert told.status == 0, told.text
    passing.allowed()


@pytest.mark.deep
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import unittest\nclass TestX(unittest.TestCase):\n    def test_x(self): pass\n", "plain classes"),
        ("import pytest\n@pytest.mark.platfrom('vm')\ndef test_x(image): pass\n", "did you mean 'platform'?"),
        ("import pytest\n@pytest.mark.platform('vmm')\ndef test_x(image): pass\n", "did you mean 'vm'?"),
        ("import pytest\n@pytest.mark.needs('sytemd')\ndef test_x(image): pass\n", "did you mean 'systemd'?"),
        ("import pytest\npytest.skip('all of it', allow_module_level=True)\n", "skipped as a whole"),
        ("def test_x(image) pass\n", "SyntaxError"),
    ],
)
def test_what_cannot_be_checked_is_said_before_anything_runs(passing: Project, text: str, says: str) -> None:
    passing.write("checks/test_odd.py", text)
    done = passing.run()
    assert done.status == 4, done.text
    assert says in done.err
    locked = passing.work.certify("lock")
    assert locked.status == 2
    assert says in locked.err


def test_settings_of_a_suite_nobody_has_are_a_mistake(passing: Project) -> None:
    config = (passing.path / "certify.yaml").read_text()
    passing.write("certify.yaml", config + "settings: {hygeine: {x: 1}}\n")
    done = passing.run()
    assert done.status == 4
    assert "did you mean 'hygiene'?" in done.err


@pytest.mark.deep
def test_a_lock_that_was_thinned_is_refused(failing: Project) -> None:
    """Taking the failing check out of the lock's list, with and without its plan's digest."""
    lock = failing.path / "certify.lock"
    document = json.loads(lock.read_text())
    checks = document["suites"]["checks"]["checks"]
    document["suites"]["checks"]["checks"] = [c for c in checks if "user" not in c["template"]]
    lock.write_text(json.dumps(document))
    assert failing.run("-k", "not user").status == 4
    done = failing.gate()
    assert done.status == 2
    assert "its checks are not those of its plan" in done.err


@pytest.mark.deep
def test_two_runs_of_less_are_not_one_of_all(failing: Project) -> None:
    assert failing.run("-k", "digest").status in (0, 1)
    assert failing.run("-k", "number").status in (0, 1)
    failing.refused("deselected", "did not pass")


@pytest.mark.deep
def test_promoting_in_one_go_asks_the_same_gate(failing: Project) -> None:
    done = failing.run("--promote", "staging", "-k", "digest")
    assert done.status == 1, done.text
    assert "refused" in done.out
    failing.refused()


@pytest.mark.deep
def test_ending_a_run_does_not_hide_that_it_failed(failing: Project) -> None:
    """Killed right after the failure, the run is certified as failed all the same."""
    config = (failing.path / "certify.yaml").read_text()
    failing.write("certify.yaml", config.replace(", max_failed_runs: 99", ""))
    failing.write(
        "checks/test_zend.py", "import os\ndef test_end(image): os.environ.get('END') and os.kill(os.getpid(), 9)\n"
    )
    assert failing.work.certify("lock").status == 0
    assert failing.run(END="1").status == -9
    certificates = failing.path / ".certify/certificates"
    wait_for(lambda: list(certificates.rglob("*.json")), "the certificate")
    failing.refused("failed")


@pytest.mark.deep
@pytest.mark.parametrize("harm", ["a pipe", "a link to nothing", "a link to a folder"])
def test_what_is_no_plain_file_in_a_suite_is_refused(passing: Project, harm: str) -> None:
    import os

    path = passing.path / "checks" / "data"
    if harm == "a pipe":
        os.mkfifo(path)
    else:
        (passing.path / "data").mkdir()
        path.symlink_to("../data" if harm == "a link to a folder" else "nowhere")
    done = passing.run()
    assert done.status == 4, done.text
    assert passing.work.certify("lock").status == 2


@pytest.mark.deep
@pytest.mark.parametrize(
    "setting", ["max_age: 99999999999999w", "valid_for: 99999999w", "requires: {suites: [./checks]}"]
)
def test_settings_that_no_gate_can_use_are_mistakes(passing: Project, setting: str) -> None:
    assert passing.run().status == 0
    name = setting.partition(":")[0]
    config = (passing.path / "certify.yaml").read_text()
    line = next(line for line in config.splitlines() if "staging" in line)
    wrong = f"  staging: {{{setting}}}" if name == "requires" else line.replace("max_failed_runs: 99", setting)
    passing.write("certify.yaml", config.replace(line, wrong))
    done = passing.work.certify("promote", IMAGE, "--to", "staging")
    assert done.status == 2, done.text
    assert "defect" not in done.text
