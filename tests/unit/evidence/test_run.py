"""The verdict, and that nothing planned goes missing."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.evidence.run import (
    DESELECTED,
    FAILED,
    FLAKY,
    NO_VERDICT,
    OUTCOMES,
    PASSED,
    SKIPPED,
    Check,
    Run,
    complete,
    verdict,
)
from tests.unit.samples import check, finished, plan_of, plans_for

checks = st.lists(
    st.builds(lambda n, o: check(f"test_{n}", o), st.integers(0, 30), st.sampled_from(OUTCOMES)), max_size=30
)


@pytest.mark.parametrize(
    ("outcomes", "wanted"),
    [
        ([PASSED], "PASSED"),
        ([PASSED, SKIPPED], "PASSED"),
        ([PASSED, FAILED], "FAILED"),
        ([FAILED, NO_VERDICT], "FAILED"),
        ([PASSED, NO_VERDICT], "NO_VERDICT"),
        ([PASSED, FLAKY], "WARNED"),
        ([SKIPPED], "NO_VERDICT"),
        ([], "NO_VERDICT"),
    ],
)
def test_verdicts(outcomes: list[str], wanted: str) -> None:
    assert verdict(check(str(i), o) for i, o in enumerate(outcomes)) == wanted


@given(checks)
def test_green_is_never_silent(found: list[Check]) -> None:
    outcomes = {c.outcome for c in found}
    if verdict(found) == "PASSED":
        assert PASSED in outcomes
        assert not outcomes & {FAILED, NO_VERDICT, FLAKY}


@given(checks, st.integers(0, 40))
def test_every_planned_check_is_reported(found: list[Check], extra: int) -> None:
    planned = [(f"certify_suites.baseline.test_x::test_{i}[app:1-container]", "app:1-container") for i in range(extra)]
    done = complete(planned, found)
    ids = [c.id for c in done]
    assert len(ids) == len(set(ids))
    assert {p for p, _ in planned} <= set(ids)
    missing = {p for p, _ in planned} - {c.id for c in found}
    assert all(c.outcome == NO_VERDICT and "never run" in c.reason for c in done if c.id in missing)


def test_a_run_whose_process_is_gone_is_interrupted() -> None:
    run = finished(status="running", owner="h/b/1/1".replace("h", __import__("socket").gethostname()))
    assert run.state == "interrupted"
    assert finished(status="running").state == "running"
    assert finished().state == "finished"


@given(checks, st.data())
def test_what_the_plan_does_not_see_passed_never_passes(found: list[Check], data: st.DataObject) -> None:
    """From any run, outcomes removed, renamed, doubled or skipped: the verdict is never better than the whole run's."""
    whole = finished(*found) if found else finished()
    plans = plans_for(*whole.checks)
    kept = [c for c in whole.checks if data.draw(st.booleans())]
    renamed = [
        msgspec.structs.replace(c, id=c.id.replace("test_", "test_other_")) for c in kept if data.draw(st.booleans())
    ]
    again = finished(*(kept + renamed or [check("test_elsewhere", suite="other")]), plans=plans)
    if again.verdicts["app:1-container"] == "PASSED":
        assert whole.verdicts["app:1-container"] == "PASSED"
        assert {c.id for c in kept} == {c.id for c in whole.checks}


def test_a_check_left_out_by_the_command_line_is_no_pass() -> None:
    ids = tuple(c.id for c in (check("test_a"), check("test_b")))
    run = finished(check("test_a"), plans=(plan_of("test_a", "test_b"),), deselected=ids)
    assert run.verdicts == {"app:1-container": "INCOMPLETE"}
    assert [c.outcome for c in run.checks] == [PASSED, DESELECTED]


def test_a_missing_check_is_no_verdict() -> None:
    run = finished(check("test_a"), plans=(plan_of("test_a", "test_b"),))
    assert run.verdicts == {"app:1-container": "NO_VERDICT"}


def test_a_skip_counts_only_for_a_listed_reason() -> None:
    plans = (plan_of("test_a", "test_b", skips=("the image has no *",)),)
    listed = finished(check("test_a"), check("test_b", "skipped", reason="the image has no sshd"), plans=plans)
    assert listed.verdicts == {"app:1-container": "PASSED"}
    other = finished(check("test_a"), check("test_b", "skipped", reason="not today"), plans=plans)
    assert other.verdicts == {"app:1-container": "INCOMPLETE"}
    assert other.unlisted == (check("test_b").id,)


def test_a_check_nobody_planned_keeps_a_target_from_passing() -> None:
    run = finished(check("test_a"), check("test_z"), plans=(plan_of("test_a"),))
    assert run.verdicts == {"app:1-container": "INCOMPLETE"}
    assert [c.suite for c in run.checks if c.id in run.unlisted] == [""]


def test_what_was_collected_twice_keeps_a_target_from_passing() -> None:
    assert finished(twice=(check("test_a").id,)).verdicts == {"app:1-container": "INCOMPLETE"}


def test_version_1_documents_stay_readable() -> None:
    text = b"""{"schema": "certify.run/v1", "id": "r", "status": "finished", "owner": "", "product": "p", "started": "",
      "targets": [{"id": "t", "digest": "d", "reference": "r", "platform": "container", "driver": "docker"}],
      "checks": [{"id": "a.b::c[t]", "target": "t", "outcome": "passed"}], "verdicts": {"t": "PASSED"}, "later": 1}"""
    assert msgspec.json.decode(text, type=Run).checks[0].outcome == PASSED
