"""The verdict, and that nothing planned goes missing."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.evidence.run import (
    FAILED,
    FLAKY,
    NO_VERDICT,
    OUTCOMES,
    PASSED,
    SKIPPED,
    Check,
    Run,
    complete,
    suite_of,
    verdict,
)
from tests.unit.samples import check, finished

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
    assert all(c.outcome == NO_VERDICT and "not run" in c.reason for c in done if c.id in missing)


def test_a_run_whose_process_is_gone_is_interrupted() -> None:
    run = finished(status="running", owner="h/b/1/1".replace("h", __import__("socket").gethostname()))
    assert run.state == "interrupted"
    assert finished(status="running").state == "running"
    assert finished().state == "finished"


def test_the_suite_is_read_off_the_check() -> None:
    assert suite_of("certify_suites.hygiene.test_identity::test_x[a-container]") == "hygiene"
    assert suite_of("ours.test_x::TestA::test_y[a-container]") == "ours"


def test_version_1_documents_stay_readable() -> None:
    text = b"""{"schema": "certify.run/v1", "id": "r", "status": "finished", "owner": "", "product": "p", "started": "",
      "targets": [{"id": "t", "digest": "d", "reference": "r", "platform": "container", "driver": "docker"}],
      "checks": [{"id": "a.b::c[t]", "target": "t", "outcome": "passed"}], "verdicts": {"t": "PASSED"}, "later": 1}"""
    assert msgspec.json.decode(text, type=Run).checks[0].outcome == PASSED
