"""``pytest --image`` as a user runs it: options, ids, outcomes, exit codes, and pytest's own features beside it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import docker
import pytest

from tests.integration.conftest import DEMO, EngineProxy, MakeImage, Workspace, left_behind

SCRATCH = DEMO + "scratch"
CHECKS = """
import pytest

def test_host(host):
    assert host.file("/web").exists

def test_node(node, image, facts):
    assert node.run("echo hi").text == "hi"
    assert image.digest.startswith("sha256:")
    assert 8080 in {s.port for s in facts.sockets}

def test_plain():
    pass
"""


@pytest.fixture
def checks(work: Workspace) -> Workspace:
    work.write("ours/test_ours.py", CHECKS)
    return work


def test_green(checks: Workspace, engine: docker.DockerClient) -> None:
    done = checks.pytest("--image", SCRATCH, "ours")
    assert done.status == 0, done.text
    digest = engine.images.get("certify-demo:scratch").id
    assert f"certify: {SCRATCH} = {digest}" in done.out
    assert "PASSED     docker-daemon:certify-demo:scratch on container: 3 passed" in done.out
    run = checks.last_run
    assert run["status"] == "finished"
    assert [c["id"] for c in run["checks"]] == [
        f"ours.test_ours::test_{n}[certify-demo-container]" for n in ("host", "node", "plain")
    ]
    assert left_behind(engine, run["id"]) == []


def test_evidence_is_complete(checks: Workspace) -> None:
    checks.write("ours/test_bad.py", "def test_bad(host):\n    assert host.run('echo why; exit 3').rc == 0\n")
    assert checks.pytest("--image", SCRATCH, "ours").status == 1
    folder = checks.path / ".certify/runs/latest"
    manifest = json.loads((folder / "manifest.json").read_text())
    names = set(manifest["files"])
    assert {"run.json", "junit.xml", "outcomes.jsonl"} <= names
    node = "nodes/certify-demo-container"
    assert {f"{node}/{name}" for name in ("console.log", "facts.json", "shell.log")} <= names
    assert "listens on port 8080" in (folder / node / "console.log").read_text()
    assert json.loads((folder / node / "facts.json").read_text())["schema"] == "certify.facts/v1"
    assert "echo why" in (folder / node / "shell.log").read_text()
    suite = ElementTree.parse(folder / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("4", "1")
    results = [json.loads(p.read_text()) for p in (folder / "allure-results").glob("*-result.json")]
    failed = next(r for r in results if r["status"] == "failed")
    kinds = {a["name"]: (folder / "allure-results" / a["source"]).read_text() for a in failed["attachments"]}
    assert "$ echo why; exit 3\nwhy\n[status 3" in kinds["transcript"]
    assert "listens on port" in kinds["console"]
    assert "sockets" in kinds["facts"]
    bad = next(c for c in checks.last_run["checks"] if "test_bad" in c["id"])
    assert "$ echo why" in bad["transcript"]


def test_no_effect_without_image(checks: Workspace) -> None:
    checks.write("ours/test_ours.py", "def test_plain():\n    pass\n")
    done = checks.pytest("ours", "-v")
    assert done.status == 0
    assert "ours/test_ours.py::test_plain" in done.out
    assert "certify:" not in done.out
    assert not (checks.path / ".certify").exists()


def test_testinfras_host_is_untouched_without_image(work: Workspace) -> None:
    work.write("test_local.py", "def test_local(host):\n    assert type(host.backend).__name__ == 'LocalBackend'\n")
    assert work.pytest("test_local.py").status == 0


@pytest.mark.parametrize(
    ("more", "ids"),
    [(["-k", "test_node"], {"test_node"}), (["-k", "not test_node"], {"test_host", "test_plain"})],
)
def test_selecting(checks: Workspace, more: list[str], ids: set[str]) -> None:
    done = checks.pytest("--image", SCRATCH, "ours", "-v", *more)
    assert done.status == 0
    assert {name for name in ("test_host", "test_node", "test_plain") if f"::{name}" in done.out} == ids
    assert len(checks.last_run["deselected"]) == 3 - len(ids)
    assert set(checks.last_run["verdicts"].values()) == {"INCOMPLETE"}


def test_last_failed_stop_at_first_and_ids_from_a_report(checks: Workspace) -> None:
    checks.write("ours/test_bad.py", "def test_bad(node):\n    assert 0\n\ndef test_worse(node):\n    assert 0\n")
    done = checks.pytest("--image", SCRATCH, "ours", "-x")
    assert done.status == 1
    run = checks.last_run
    assert {c["outcome"] for c in run["checks"]} == {"failed", "no-verdict"}
    assert all("never run" in c["reason"] for c in run["checks"] if c["outcome"] == "no-verdict")
    again = checks.pytest("--image", SCRATCH, "ours", "--lf")
    assert "1 failed" in again.out
    assert list(checks.outcomes().values()) == ["failed"]
    name = "certify_suites.container.test_config::test_ports_are_well_formed[certify-demo-container]"
    assert checks.pytest("--image", SCRATCH, name).status == 0
    assert list(checks.outcomes()) == ["test_ports_are_well_formed"]
    assert checks.last_run["verdicts"] == {"certify-demo-container": "INCOMPLETE"}


def test_collect_only_boots_and_writes_nothing(checks: Workspace) -> None:
    done = checks.pytest("--image", SCRATCH, "ours", "--collect-only", "-q")
    assert done.status == 0
    assert "ours.test_ours::test_host[certify-demo-container]" in done.out
    assert not (checks.path / ".certify/runs/latest").exists()


def test_several_workers(checks: Workspace, engine: docker.DockerClient) -> None:
    done = checks.pytest(
        "--image", SCRATCH, "--image", DEMO + "good", "ours", "-n", "2", "-k", "test_node or test_host"
    )
    run = checks.last_run
    assert done.status == 1, done.text  # /web is not in the good image
    assert run["verdicts"] == {"certify-demo:scratch-container": "INCOMPLETE", "certify-demo:good-container": "FAILED"}
    assert len([c for c in run["checks"] if c["outcome"] != "deselected"]) == 4
    assert {t["boot"] for t in run["targets"]} == {"cold"}
    assert left_behind(engine, run["id"]) == []


def test_several_images_and_suites(work: Workspace) -> None:
    done = work.pytest("--image", SCRATCH, "--image", DEMO + "good", "--suite", "container", "-q")
    assert done.status == 0, done.text
    assert len({c["target"] for c in work.last_run["checks"]}) == 2
    assert [s["name"] for s in work.last_run["suites"]] == ["container"]


def test_marks_filter_before_anything_boots(work: Workspace) -> None:
    work.write(
        "test_m.py",
        "import pytest\n"
        "@pytest.mark.platform('vm')\n"
        "def test_vm(node): pass\n"
        "@pytest.mark.needs('systemd')\n"
        "def test_systemd(node): pass\n"
        "@pytest.mark.needs('package-manager')\n"
        "@pytest.mark.control('CIS-1')\n"
        "def test_packages(node): pass\n"
        "@pytest.mark.control('CIS-2', 'STIG-3')\n"
        "def test_here(node): pass\n",
    )
    assert work.pytest("--image", SCRATCH, "test_m.py").status == 0
    assert work.outcomes() == {
        "test_vm": "skipped",
        "test_systemd": "skipped",
        "test_packages": "skipped",
        "test_here": "passed",
    }
    reasons = [c["reason"] for c in work.last_run["checks"] if c["outcome"] == "skipped"]
    assert "applies to vm only" in reasons
    assert any("needs systemd" in reason for reason in reasons)
    assert [c["controls"] for c in work.last_run["checks"]][-1] == ["CIS-2", "STIG-3"]


def test_everything_skipped_proves_nothing(work: Workspace) -> None:
    work.write("test_m.py", "import pytest\n@pytest.mark.platform('vm')\ndef test_vm(node): pass\n")
    done = work.pytest("--image", SCRATCH, "test_m.py")
    assert done.status == 5
    assert "every check was skipped: nothing was proven" in done.out
    assert work.last_run["targets"][0]["boot"] == "none"


def test_nothing_collected(work: Workspace) -> None:
    work.write("empty/test_e.py", "")
    done = work.pytest("--image", SCRATCH, "empty")
    assert done.status == 4
    assert "no check in" in done.err


def test_a_node_lost_in_the_middle_is_no_verdict(work: Workspace, engine: docker.DockerClient) -> None:
    work.write(
        "test_l.py",
        "import docker\n"
        "def test_before(node): assert node.run('true').ok\n"
        "def test_during(node):\n"
        "    docker.from_env().containers.get(node.how.details['container']).kill()\n"
        "    node.run('true')\n"
        "def test_after(node): assert node.run('true').ok\n",
    )
    done = work.pytest("--image", SCRATCH, "test_l.py", "-p", "no:unraisableexception")
    assert done.status == 6, done.text
    assert work.outcomes() == {"test_before": "passed", "test_during": "no-verdict", "test_after": "no-verdict"}
    assert "its process 1 has ended" in done.out
    assert "Traceback" not in done.text
    assert "NO_VERDICT" in done.out


def test_an_image_that_ends_by_itself_has_failed(
    work: Workspace, make_image: MakeImage, engine: docker.DockerClient
) -> None:
    reference = make_image("exits", entrypoint=["/web"], files={"/web": {"program": "web", "mode": "0755"}})
    work.write("test_x.py", "def test_1(node): pass\ndef test_2(host): pass\n")
    done = work.pytest("--image", reference, "test_x.py")
    assert done.status == 1
    assert set(work.outcomes().values()) == {"failed"}
    assert "usage: web PORT VERSION" in done.out, "the console's last words are shown"
    [console] = (work.path / ".certify/runs/latest/nodes").glob("*/console.log")
    assert "usage: web PORT VERSION" in console.read_text()
    assert left_behind(engine, work.last_run["id"]) == []


@pytest.mark.deep
def test_an_engine_that_dies_in_the_middle_is_no_verdict(
    work: Workspace, engine_proxy: EngineProxy, engine: docker.DockerClient
) -> None:
    work.write("cut.flag", "")
    work.write(
        "test_e.py",
        "import pathlib, time\n"
        "def test_before(node): assert node.run('true').ok\n"
        "def test_during(node):\n"
        "    pathlib.Path('now').touch()\n"
        "    while not pathlib.Path('cut').exists(): time.sleep(0.05)\n"
        "    node.run('true')\n"
        "def test_after(node): node.run('true')\n",
    )
    import threading

    from tests.integration.conftest import wait_for

    def cut() -> None:
        wait_for((work.path / "now").exists, "the check")
        engine_proxy.cut()
        (work.path / "cut").touch()

    thread = threading.Thread(target=cut)
    thread.start()
    done = work.pytest("--image", SCRATCH, "test_e.py", DOCKER_HOST=engine_proxy.url)
    thread.join()
    assert done.status == 6, done.text
    assert work.outcomes() == {"test_before": "passed", "test_during": "no-verdict", "test_after": "no-verdict"}
    assert "does not answer" in done.out
    removed = work.certify("gc")
    assert f"removed container certify-{work.last_run['id']}-" in removed.out, removed.text
    assert left_behind(engine, work.last_run["id"]) == []


def test_a_remote_engine(checks: Workspace, engine_proxy: EngineProxy) -> None:
    assert checks.pytest("--image", SCRATCH, "ours", DOCKER_HOST=engine_proxy.url).status == 0


def test_passed_only_on_a_rerun_is_its_own_outcome(work: Workspace) -> None:
    work.write(
        "test_f.py",
        "import pathlib\n"
        "def test_flaky(node):\n"
        "    first = not pathlib.Path('seen').exists()\n"
        "    pathlib.Path('seen').touch()\n"
        "    assert not first\n"
        "def test_steady(node): pass\n",
    )
    done = work.pytest("--image", SCRATCH, "test_f.py", "--reruns", "2")
    assert done.status == 1
    assert work.outcomes() == {"test_flaky": "passed-on-rerun", "test_steady": "passed"}
    assert work.last_run["verdicts"] == {"certify-demo-container": "WARNED"}
    assert "1 passed on rerun" in done.out


def test_a_tag_that_moves_during_the_run_changes_nothing(work: Workspace, engine: docker.DockerClient) -> None:
    work.write(
        "test_t.py",
        "import docker, pytest\n"
        "def test_first(node, image):\n"
        "    docker.from_env().api.tag('certify-demo:good', 'certify-demo', 'moving')\n"
        "@pytest.mark.destructive\n"
        "def test_second(node, image):\n"
        "    assert node.run('test -e /web').ok, 'a new node is still made from the first digest'\n",
    )
    engine.api.tag("certify-demo:scratch", "certify-demo", "moving")
    try:
        done = work.pytest(
            "--image", DEMO + "moving", "test_t.py", "-p", "no:unraisableexception", "--isolation", "check"
        )
        assert done.status == 0, done.text
        assert work.last_run["candidates"][0]["digest"] == engine.images.get("certify-demo:scratch").id
    finally:
        engine.api.remove_image("certify-demo:moving", noprune=True)


def test_strict_shell(checks: Workspace) -> None:
    assert checks.pytest("--image", SCRATCH, "ours", "--strict-shell", "-k", "test_host").status == 0


def test_junitxml_and_alluredir_of_pytest_itself(checks: Workspace) -> None:
    done = checks.pytest("--image", SCRATCH, "ours", "--junitxml", "mine.xml", "--alluredir", "mine")
    assert done.status == 0
    assert ElementTree.parse(checks.path / "mine.xml").getroot() is not None
    assert list(Path(checks.path / "mine").glob("*-result.json"))


def test_settings_reach_the_suite(work: Workspace) -> None:
    work.write("certify.yaml", "settings: {container: {labels_required: [com.example.owner]}}\n")
    assert work.pytest("--image", SCRATCH, "--suite", "container", "-q").status == 1
    assert work.outcomes()["test_required_labels_are_there"] == "failed"


def test_a_checks_history_goes_on_with_the_next_build(work: Workspace, engine: docker.DockerClient) -> None:
    work.write("test_h.py", "import pytest\n@pytest.mark.parametrize('i', [1, 2])\ndef test_h(node, i): pass\n")
    found = []
    for tag in ("scratch", "next-build"):
        engine.api.tag(f"{DEMO.removeprefix('docker-daemon:')}scratch", "certify-demo", tag)
        assert work.pytest("--image", DEMO + tag, "test_h.py").status == 0
        results = (work.path / ".certify/runs/latest/allure-results").glob("*-result.json")
        found.append(sorted(json.loads(path.read_bytes())["historyId"] for path in results))
    engine.api.remove_image("certify-demo:next-build")
    assert found[0] == found[1]
    assert len(set(found[0])) == 2


def test_what_fixtures_said_is_kept_and_secrets_in_it_are_shortened(work: Workspace) -> None:
    work.write(
        "test_f.py",
        """
import allure, pytest

@pytest.fixture
def breaks(node):
    allure.attach("seen before it broke", "note", allure.attachment_type.TEXT)
    raise RuntimeError("password=hunter2hunter2")

@pytest.fixture
def tidy():
    yield
    allure.attach("api_key: hunter2hunter2", "late", allure.attachment_type.CSV)

def test_a(breaks): pass
def test_b(tidy, node): allure.dynamic.description("password=hunter2hunter2")
""",
    )
    assert work.pytest("--image", SCRATCH, "test_f.py").status == 1
    results = (work.path / ".certify/runs/latest/allure-results").resolve()
    containers = [json.loads(path.read_bytes()) for path in results.glob("*-container.json")]
    assert all(container["children"] for container in containers)
    steps = {step["name"]: step for c in containers for step in [*c.get("befores", []), *c.get("afters", [])]}
    assert steps["breaks"]["status"] == "broken"
    assert len(steps["breaks"]["attachments"]) == 1
    [late] = [step for name, step in steps.items() if name.startswith("tidy::") and step.get("attachments")]
    assert len(late["attachments"]) == 1
    files = [path for path in results.parent.rglob("*") if path.is_file()]
    assert [path for path in files if b"hunter2hunter2" in path.read_bytes()] == []
