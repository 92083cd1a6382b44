"""Reports → outcomes: whatever order and mixture they come in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pytest_certify.outcomes import Collector, harmless

FACTS = {"target": "a-container", "suite": "s", "controls": [], "node": "n", "transcript": "$ x", "no_verdict": False}


def report(when: str, outcome: str, *, name: str = "m::t[a-container]", no_verdict: bool = False) -> Any:
    said = {key: outcome == key for key in ("passed", "failed", "skipped")}
    facts = {**FACTS, "no_verdict": no_verdict}
    return SimpleNamespace(
        nodeid=name, when=when, outcome=outcome, duration=0.1, longrepr="why", longreprtext="why", certify=facts, **said
    )


def play(*reports: Any) -> list[str]:
    collector = Collector()
    return [check.outcome for r in reports if (check := collector.add(r))]


@pytest.mark.parametrize(
    ("reports", "wanted"),
    [
        ([("setup", "passed"), ("call", "passed"), ("teardown", "passed")], "passed"),
        ([("setup", "passed"), ("call", "failed"), ("teardown", "passed")], "failed"),
        ([("setup", "failed"), ("teardown", "passed")], "failed"),
        ([("setup", "passed"), ("call", "passed"), ("teardown", "failed")], "failed"),
        ([("setup", "skipped"), ("teardown", "passed")], "skipped"),
    ],
)
def test_three_phases_make_one_outcome(reports: list[tuple[str, str]], wanted: str) -> None:
    assert play(*(report(*r) for r in reports)) == [wanted]


def test_no_verdict_wins_over_failed() -> None:
    phases = report("setup", "passed"), report("call", "failed"), report("teardown", "failed", no_verdict=True)
    assert play(*phases) == ["no-verdict"]


def test_passed_on_a_rerun() -> None:
    first = report("setup", "passed"), report("call", "rerun"), report("teardown", "passed")
    again = report("setup", "passed"), report("call", "passed"), report("teardown", "passed")
    assert play(*first[:2], *again) == ["passed-on-rerun"]
    assert play(*first, *again) == ["passed-on-rerun"]


def test_a_check_that_was_never_called_has_no_outcome() -> None:
    assert play(report("setup", "passed"), report("teardown", "passed")) == []


@pytest.mark.parametrize("outcome", ["skipped", "passed", "failed"])
def test_what_was_expected_to_fail_has_failed(outcome: str) -> None:
    marked = report("call", outcome)
    marked.wasxfail = "known"
    assert play(report("setup", "passed"), marked, report("teardown", "passed")) == ["failed"]


def test_reports_of_several_workers_may_be_mixed() -> None:
    a = [report(when, "passed", name="a") for when in ("setup", "call", "teardown")]
    b = [report(when, "failed" if when == "call" else "passed", name="b") for when in ("setup", "call", "teardown")]
    assert play(a[0], b[0], b[1], a[1], b[2], a[2]) == ["failed", "passed"]


def test_tests_that_have_nothing_to_do_with_images_are_left_alone() -> None:
    assert play(SimpleNamespace(nodeid="x", certify=None, outcome="passed")) == []


def test_control_characters_are_shown() -> None:
    assert harmless("a\x1b[2J\tb\nc\x07\x9b") == "a\\x1b[2J\tb\nc\\x07\\x9b"
