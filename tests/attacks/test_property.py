"""From a real run, outcomes taken away, moved, doubled or changed before they are signed: the gate never says yes to what the
whole run would not have passed."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certify.config import Channel, Requires
from certify.errors import EvidenceError
from certify.evidence.certificate import Certificate, Place, statement
from certify.evidence.plan import SuitePlan
from certify.evidence.run import OUTCOMES, PASSED, SKIPPED, Check, Planned, Run
from certify.gate.lock import Lock, read_lock
from certify.gate.policy import Evidence, Policy
from certify.gate.rules import evaluate
from tests.integration.conftest import DEMO, Workspace

CHANNEL = Channel(requires=Requires(suites=["container"], platforms=["container"]), max_failed_runs=99)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Lock]:
    """A run of the sample image that passed, and the lock of its suite."""
    work = Workspace(tmp_path_factory.mktemp("real"))
    work.write(
        "certify.yaml", "product: app\nsuites: [container]\nchannels: {staging: {requires: {suites: [container]}}}\n"
    )
    assert work.certify("lock").status == 0
    done = work.pytest("--image", DEMO + "scratch", "--suite", "container", "-p", "no:hypothesispytest", "-q")
    assert done.status == 0, done.text
    run = msgspec.convert(work.last_run, Run)
    lock = read_lock(work.path / "certify.lock")
    assert lock is not None
    return run, lock


def judged(run: Run, lock: Lock, stream: list[Check], *, twice: tuple[str, ...] = ()) -> bool:
    """What the gate says of a certificate made of this stream, as the notary makes it."""
    pinned = lock.suites["container"]
    plan = SuitePlan(suite="container", prefix=pinned.prefix, digest=pinned.digest, checks=pinned.checks)
    kept: dict[str, Check] = {}
    doubtful = set(twice)
    for check in stream:
        if check.id in kept:
            doubtful.add(check.id)
        kept.setdefault(check.id, check)
    planned = Planned([plan], run.targets)
    made = planned.conclude(msgspec.structs.replace(run, planned=planned.planned, twice=tuple(doubtful)), kept.values())
    try:
        document = statement(made, made.targets[0], "sha256:" + "0" * 64, Place("log", 1, ""))
        certificate = Certificate("sha256:1", document)
    except EvidenceError:
        return False
    digest = run.targets[0].digest
    evidence = Evidence(digest, run.targets[0].config_digest, (certificate,))
    return evaluate(Policy("staging", "app", CHANNEL, lock), evidence, datetime.now(UTC)).allow


def test_the_whole_run_is_allowed(real: tuple[Run, Lock]) -> None:
    run, lock = real
    assert judged(run, lock, list(run.checks))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_less_or_other_than_the_whole_is_never_allowed(real: tuple[Run, Lock], data: st.DataObject) -> None:
    run, lock = real
    stream: list[Check] = []
    for check in data.draw(st.permutations(run.checks)):
        act = data.draw(
            st.sampled_from(["keep"] * 12 + ["drop", "double", "outcome", "reason", "id", "name", "target"])
        )
        if act == "drop":
            continue
        stream.append(check)
        if act == "double":
            stream.append(check)
        elif act == "outcome":
            stream[-1] = msgspec.structs.replace(check, outcome=data.draw(st.sampled_from(OUTCOMES)))
        elif act == "reason":
            stream[-1] = msgspec.structs.replace(check, outcome=SKIPPED, reason=data.draw(st.text(max_size=30)))
        elif act == "id":
            stream[-1] = msgspec.structs.replace(check, id=data.draw(st.sampled_from(run.checks)).id)
        elif act == "name":
            stream[-1] = msgspec.structs.replace(check, name="x", suite="y")
        elif act == "target":
            stream[-1] = msgspec.structs.replace(check, target="other-container")
    found = {check.id: check for check in reversed(stream)}
    whole = {check.id: check for check in run.checks}
    plan = {check.id_on(run.targets[0].id): check for check in lock.suites["container"].checks}
    earned = len(found) == len(stream) and all(
        i in found
        and (found[i].outcome == PASSED == whole[i].outcome or plan[i].may_be_skipped("container", found[i].reason))
        for i in plan
    )
    assert judged(run, lock, stream) <= earned
