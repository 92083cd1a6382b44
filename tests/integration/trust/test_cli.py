"""From init to verify on the command line, with real runs of real images."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from tests.integration.conftest import DEMO, KILLS, Workspace, kill

GOOD, BAD, SCRATCH = DEMO + "good", DEMO + "bad", DEMO + "scratch"
CONFIG = """
product: app
suites: [container]
channels:
  staging: {requires: {suites: [container], platforms: [container]}}
  production: {after: staging, requires: {suites: [container]}}
"""


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A project with one signed passing run of the scratch image."""
    work = Workspace(tmp_path_factory.mktemp("signed"))
    work.write("pytest.ini", "")
    work.write("certify.yaml", CONFIG)
    assert work.certify("init").status == 0
    done = work.pytest("--image", SCRATCH, "--sign", "-q")
    assert done.status == 0, done.text
    assert "signed" in done.out
    return work


def test_init_writes_once_and_never_over(work: Workspace) -> None:
    first = work.certify("init", "--product", "My Base!")
    assert first.status == 0
    assert "DEVELOPMENT keys" in first.out
    assert "product: my-base" in (work.path / "certify.yaml").read_text()
    keys = {p.name: p.read_bytes() for p in (work.path / ".certify/keys").iterdir()}
    assert all(p.stat().st_mode & 0o077 == 0 for p in (work.path / ".certify/keys").glob("*.pem"))
    second = work.certify("init")
    assert second.status == 0
    assert second.out.count("kept") == 4
    assert {p.name: p.read_bytes() for p in (work.path / ".certify/keys").iterdir()} == keys
    assert work.certify("doctor").status == 0
    assert work.certify("channels").out.startswith("nothing stands on any channel")


def test_the_whole_way(signed: Workspace) -> None:
    gate = signed.certify("gate", SCRATCH, "--channel", "staging", "--json")
    assert gate.status == 0, gate.text
    assert json.loads(gate.out)["allow"] is True
    too_early = signed.certify("promote", SCRATCH, "--to", "production")
    assert too_early.status == 1
    assert "does not stand on staging" in too_early.err
    assert signed.certify("promote", SCRATCH, "--to", "staging").status == 0
    pointer = json.loads(signed.certify("promote", SCRATCH, "--to", "production", "--json").out)
    assert pointer["resourceUri"] == f"docker-daemon:{pointer['digest']}"
    verified = signed.certify("verify", SCRATCH, "--channel", "production")
    assert verified.status == 0, verified.text
    listed = json.loads(signed.certify("channels", "--json").out)["channels"]
    assert {(p["channel"], p["digest"]) for p in listed} == {
        ("staging", pointer["digest"]),
        ("production", pointer["digest"]),
    }
    other = signed.certify("verify", GOOD, "--channel", "production")
    assert other.status == 1
    assert "but production holds" in other.out
    assert signed.certify("verify", pointer["resourceUri"], "--json").status == 0
    assert signed.certify("channels", "--refresh").status == 0


def test_an_unsigned_image_is_refused(signed: Workspace) -> None:
    done = signed.certify("promote", GOOD, "--to", "staging")
    assert done.status == 1
    assert "no valid certificate about this digest" in done.err
    assert "pytest --image REF --sign" in done.err


def test_a_failed_image_is_refused_with_reasons(signed: Workspace) -> None:
    done = signed.pytest("--image", BAD, "--suite", "hygiene", "--suite", "container", "--sign", "-q")
    assert done.status == 1
    assert "signed" in done.out, "failed runs are certified too, as failed"
    gate = signed.certify("gate", BAD, "--channel", "staging")
    assert gate.status == 1
    assert "FAIL result:container" in gate.out
    assert "→ fix the image" in gate.out
    assert signed.certify("promote", BAD, "--to", "staging").status == 1


def test_a_deselected_check_is_noticed(signed: Workspace) -> None:
    assert signed.pytest("--image", DEMO + "v2", "-k", "labels", "--sign", "-q").status == 0
    done = signed.certify("gate", DEMO + "v2", "--channel", "staging")
    assert done.status == 1
    assert "14 deselected" in done.out
    assert "run the whole suite to its end" in done.out


def test_the_decision_at_another_time(signed: Workspace) -> None:
    done = signed.certify("gate", SCRATCH, "--channel", "staging", "--at", "2099-01-01T00:00:00Z", "--dry-run")
    assert done.status == 1
    assert "days old" in done.out
    assert signed.certify("gate", SCRATCH, "--channel", "staging", "--at", "soon").status == 2


def test_sign_and_promote_in_one_go(work: Workspace) -> None:
    work.write("certify.yaml", CONFIG)
    work.certify("init")
    done = work.pytest("--image", SCRATCH, "--promote", "staging", "-q")
    assert done.status == 0, done.text
    assert "promoted   staging/app/amd64.json" in done.out
    assert "(serial 1" in done.out
    assert work.certify("verify", SCRATCH).status == 0
    refused = work.pytest("--image", BAD, "--suite", "container", "--suite", "hygiene", "--promote", "staging", "-q")
    assert refused.status == 1
    assert "refused    certify: the gate of staging refuses" in refused.out


def test_blessing_a_run_later(work: Workspace) -> None:
    work.write("certify.yaml", CONFIG)
    work.certify("init")
    assert work.pytest("--image", SCRATCH, "-q").status == 0
    run = work.last_run["id"]
    done = work.certify("bless", run)
    assert done.status == 0, done.text
    assert (work.path / f".certify/runs/{run}/certificate.dsse.json").exists()
    assert work.certify("gate", SCRATCH, "--channel", "staging").status == 0
    document = work.path / ".certify/runs/latest/junit.xml"
    document.write_text(document.read_text() + " ")
    changed = work.certify("bless", run)
    assert changed.status == 2
    assert "junit.xml was changed after the run" in changed.err


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        (["gate", SCRATCH, "--channel", "stagin"], 2, "did you mean staging?"),
        (["promote", SCRATCH, "--to", "prod"], 2, "no channel 'prod'"),
        (["verify", SCRATCH, "--channel", "prod"], 2, "no channel 'prod'"),
        (["bless", "no-such-run"], 2, "No such file"),
        (["frobnicate"], 2, "No such command"),
        (["gate"], 2, "Missing argument"),
        (["--config", "none.yaml", "channels"], 2, "none.yaml"),
    ],
)
def test_mistakes(signed: Workspace, command: list[str], status: int, says: str) -> None:
    done = signed.certify(*command)
    assert done.status == status, done.text
    assert says in done.err
    assert "Traceback" not in done.text


def test_a_folder_that_cannot_be_made(work: Workspace) -> None:
    work.write(".certify", "a file where a folder should be")
    done = work.certify("init")
    assert done.status == 2
    assert ".certify" in done.err
    assert "Traceback" not in done.text
    assert "Traceback" in work.certify("--debug", "init").err


def test_a_key_that_others_can_read(work: Workspace) -> None:
    work.write("certify.yaml", CONFIG)
    work.certify("init")
    (work.path / ".certify/keys/runner.pem").chmod(0o644)
    done = work.pytest("--image", SCRATCH, "--sign")
    assert done.status == 4
    assert "others can read this private key" in done.text
    assert "chmod 600" in done.text


@pytest.mark.parametrize("number", range(KILLS))
def test_a_promotion_killed_at_a_random_moment(signed: Workspace, number: int) -> None:
    process = signed.start("certify", "promote", SCRATCH, "--to", "staging")
    time.sleep(random.Random(number).uniform(0.05, 0.5))
    kill(process)
    again = signed.certify("promote", SCRATCH, "--to", "staging")
    assert again.status == 0, again.text
    assert signed.certify("verify", SCRATCH, "--channel", "staging").status == 0


COMMANDS = ["init", "doctor", "inspect", "bless", "gate", "promote", "verify", "channels", "deploy", "gc", "schema"]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example(work: Workspace, command: str) -> None:
    done = work.certify(*([command] if command else []), "--help")
    assert done.status == 0
    assert ("Example: certify" if command else "Exit codes:") in done.out
    assert "\x1b" not in done.out


def test_completion_and_schema(work: Workspace) -> None:
    assert "certify" in work.run("certify", _CERTIFY_COMPLETE="bash_source").out
    schema = json.loads(work.certify("schema").out)
    assert schema["$schema"].endswith("2020-12/schema")
    assert "Fleet" in json.loads(work.certify("schema", "fleet.yaml").out)["title"]


def test_the_published_schema_is_the_one_in_the_docs(work: Workspace) -> None:
    published = Path(__file__).parents[3] / "docs" / "certify.schema.json"
    assert json.loads(published.read_text()) == json.loads(work.certify("schema").out)
