"""The gate: every rule passes and denies for its own reason, and nothing to go by denies."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.config import Config
from certify.errors import UsageError
from certify.evidence.certificate import Certificate, statement
from certify.evidence.run import Check
from certify.gate.decision import Decision
from certify.gate.policy import Evidence, Policy, policy_of
from certify.gate.rules import evaluate
from tests.unit.samples import DIGEST, OTHER, check, finished

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
POLICY = Policy("staging", "app", ("baseline",), ("container",), (), None, timedelta(days=7), allow_warned=False)


def certificate(*checks: Check, number: int = 1, **more: object) -> Certificate:
    run = finished(*checks, **more)  # type: ignore[arg-type]
    return Certificate(f"sha256:{number}", statement(run, run.targets[0], OTHER))


def decide(
    *certificates: Certificate, policy: Policy = POLICY, now: datetime = NOW, standing: set[str] = set()
) -> Decision:
    return evaluate(policy, Evidence(DIGEST, certificates, frozenset(standing)), now)


def denied(decision: Decision) -> set[str]:
    assert not decision.allow
    assert all(rule.solution for rule in decision.rules if rule.status == "fail")
    return {rule.id for rule in decision.rules if rule.status == "fail"}


def test_a_good_certificate_is_enough() -> None:
    decision = decide(certificate())
    assert decision.allow
    assert decision.evidence == ("sha256:1",)
    assert decision.what_would_change_it == ()


def test_no_certificate_denies_by_every_rule() -> None:
    assert denied(decide()) == {"certified", "result:container", "suite:baseline:container", "age"}


def test_a_policy_that_asks_for_nothing_still_wants_a_certificate() -> None:
    empty = replace(POLICY, suites=(), platforms=())
    assert denied(decide(policy=empty)) == {"certified", "age"}
    assert decide(certificate(), policy=empty).allow


def test_certificates_about_others_do_not_count() -> None:
    assert "certified" in denied(decide(certificate(digest=OTHER)))
    assert "certified" in denied(decide(certificate(product="other")))


def test_a_failed_certificate_denies() -> None:
    found = denied(decide(certificate(check("test_a"), check("test_b", "failed"))))
    assert found == {"result:container", "suite:baseline:container"}


def test_a_later_failure_is_not_hidden_by_an_earlier_pass() -> None:
    earlier = certificate(at="2026-11-19T10:00:00Z", number=1)
    later = certificate(check("test_a"), check("test_b", "failed"), number=2)
    assert "result:container" in denied(decide(earlier, later))
    assert "result:container" in denied(decide(later, earlier))


def test_a_missing_platform_denies() -> None:
    policy = replace(POLICY, platforms=("container", "vm"))
    assert denied(decide(certificate(), policy=policy)) == {"result:vm", "suite:baseline:vm"}


def test_a_missing_suite_denies() -> None:
    assert denied(decide(certificate(), policy=replace(POLICY, suites=("baseline", "hygiene")))) == {
        "suite:hygiene:container"
    }


def test_deselected_checks_deny() -> None:
    left_out = ("certify_suites.baseline.test_x::test_z[app:1-container]",)
    assert denied(decide(certificate(deselected=left_out))) == {"suite:baseline:container"}


def test_a_skipped_required_check_denies() -> None:
    name = "certify_suites.baseline.test_x::test_b"
    policy = replace(POLICY, checks=(name,))
    assert decide(certificate(), policy=policy).allow
    skipped = certificate(check("test_a"), check("test_b", "skipped"))
    assert denied(decide(skipped, policy=policy)) == {f"check:{name}"}


def test_a_required_check_is_not_met_by_one_whose_name_starts_alike() -> None:
    policy = replace(POLICY, checks=("certify_suites.baseline.test_x::test_",))
    assert not decide(certificate(), policy=policy).allow


def test_passed_only_on_a_rerun_denies_unless_allowed() -> None:
    flaky = certificate(check("test_a"), check("test_b", "passed-on-rerun"))
    assert denied(decide(flaky)) == {"result:container"}
    assert decide(flaky, policy=replace(POLICY, allow_warned=True)).allow


def test_age() -> None:
    assert decide(certificate(), now=NOW + timedelta(days=6)).allow
    assert denied(decide(certificate(), now=NOW + timedelta(days=8))) == {"age"}
    assert denied(decide(certificate(), now=NOW - timedelta(days=1))) == {"age"}


def test_after() -> None:
    policy = replace(POLICY, after="staging", channel="production")
    assert denied(decide(certificate(), policy=policy)) == {"after"}
    assert decide(certificate(), policy=policy, standing={"staging"}).allow


def test_an_unknown_channel_is_named() -> None:
    with pytest.raises(UsageError, match="no channel 'stagin'") as caught:
        policy_of(Config(), "stagin")
    assert "staging" in caught.value.hint


@given(
    st.lists(st.sampled_from(["passed", "failed", "skipped", "passed-on-rerun"]), min_size=1, max_size=8),
    st.integers(-3, 20),
)
def test_nothing_but_passed_checks_in_time_is_ever_allowed(outcomes: list[str], days: int) -> None:
    checks = [check(f"test_{i}", outcome) for i, outcome in enumerate(outcomes)]
    run = finished(*checks)
    if run.verdicts["app:1-container"] == "NO_VERDICT":
        return
    made = Certificate("sha256:1", statement(run, run.targets[0], OTHER))
    decision = decide(made, now=NOW + timedelta(days=days))
    assert decision.allow == (set(outcomes) <= {"passed", "skipped"} and 0 <= days < 7)
    assert decision == decide(made, now=NOW + timedelta(days=days))
