"""The gate: every rule passes and denies for its own reason, and nothing to go by denies."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.config import Channel, Config, Requires
from certify.errors import UsageError
from certify.evidence.certificate import Certificate, Place
from certify.evidence.run import OWN_SUITE, RUN_IS_SOUND, Check, Part, own_check
from certify.gate.decision import ALLOW, DENY, Decision, RuleResult
from certify.gate.lock import Lock
from certify.gate.policy import Evidence, Policy, policy_of
from certify.gate.rules import evaluate
from tests.unit.samples import DIGEST, OTHER, TWO, certificate_of, check, finished, lock_of, plan_of, plans_for

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


def policy(lock: Lock | None = None, **channel: Any) -> Policy:
    wants = {key: channel.pop(key) for key in ("suites", "platforms", "checks") if key in channel}
    requires = Requires(**{"suites": ["baseline"], "platforms": ["container"], **wants})
    return Policy("staging", "app", Channel(requires=requires, **channel), lock or lock_of())


def certificate(*checks: Check, number: int = 1, **more: Any) -> Certificate:
    return certificate_of(finished(*checks, **{"plans": plans_for(*TWO), **more}), number)


def decide(*certificates: Certificate, wants: Policy | None = None, now: datetime = NOW, **more: Any) -> Decision:
    standing = frozenset(more.pop("standing", ()))
    return evaluate(wants or policy(), Evidence(DIGEST, DIGEST, certificates, standing, **more), now)


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


def test_a_policy_that_asks_for_nothing_denies() -> None:
    empty = policy(suites=[], platforms=[])
    assert denied(decide(wants=empty)) == {"certified", "age", "suites"}
    assert denied(decide(certificate(), wants=empty)) == {"suites"}
    later = policy(suites=[], platforms=[], after="staging")
    assert decide(certificate(), wants=later, standing={"staging"}).allow


def test_certificates_about_others_do_not_count() -> None:
    assert "certified" in denied(decide(certificate(digest=OTHER)))
    assert "certified" in denied(decide(certificate(product="other")))
    assert "certified" in denied(evaluate(policy(), Evidence(DIGEST, OTHER, (certificate(),)), NOW))


def test_a_failed_certificate_denies() -> None:
    found = denied(decide(certificate(check("test_a"), check("test_b", "failed"))))
    assert found == {"result:container", "suite:baseline:container", "retries"}


def test_a_later_failure_is_not_hidden_by_an_earlier_pass() -> None:
    earlier = certificate(at="2026-11-19T10:00:00Z", number=1)
    later = certificate(check("test_a"), check("test_b", "failed"), number=2)
    assert "result:container" in denied(decide(earlier, later))
    assert "result:container" in denied(decide(later, earlier))


def test_a_failure_is_not_hidden_by_a_newer_run_of_less() -> None:
    plans = (plan_of("test_a", "test_b"), plan_of("test_h", suite="hygiene"))
    whole = (check("test_a"), check("test_b", "failed"), check("test_h", suite="hygiene"))
    failed = certificate(*whole, plans=plans, at="2026-11-20T10:00:00Z", number=1)
    narrow = certificate(check("test_h", suite="hygiene"), plans=plans[1:], at="2026-11-20T11:00:00Z", number=2)
    assert "result:container" in denied(decide(failed, narrow, wants=policy(lock_of(*plans))))
    left_out = certificate(check("test_a"), deselected=(check("test_b").id,), at="2026-11-20T11:00:00Z", number=2)
    assert "suite:baseline:container" in denied(decide(failed, left_out, wants=policy(max_failed_runs=5)))


def test_an_old_age_is_not_hidden_by_a_newer_run_of_less() -> None:
    plans = (plan_of("test_a", "test_b"), plan_of("test_h", suite="hygiene"))
    old = certificate(*TWO, plans=plans[:1], at="2026-11-01T10:00:00Z", number=1)
    young = certificate(check("test_h", suite="hygiene"), plans=plans[1:], at="2026-11-20T11:00:00Z", number=2)
    wants = policy(lock_of(*plans), suites=["baseline", "hygiene"])
    assert denied(decide(old, young, wants=wants)) == {"age"}


def test_of_two_certificates_of_one_time_the_failure_counts() -> None:
    passed, failed = certificate(number=1), certificate(check("test_a"), check("test_b", "failed"), number=2)
    for order in ((passed, failed), (failed, passed)):
        assert "suite:baseline:container" in denied(decide(*order, wants=policy(max_failed_runs=5)))


def test_trying_until_it_is_green_shows() -> None:
    failed = certificate(check("test_a"), check("test_b", "failed"), at="2026-11-20T09:00:00Z", number=1)
    passed = certificate(number=2)
    assert denied(decide(failed, passed)) == {"retries"}
    assert decide(failed, passed, wants=policy(max_failed_runs=1)).allow
    assert decide(failed, passed, explained=frozenset(["sha256:1"])).allow


def test_what_a_mended_suite_said_before_does_not_count() -> None:
    before = plan_of("test_a", "test_b")
    before = msgspec.structs.replace(before, digest="sha256:" + "c" * 64)
    failed = certificate(check("test_a"), check("test_b", "failed"), plans=(before,), at="2026-11-20T09:00:00Z")
    assert decide(failed, certificate(number=2)).allow


def test_a_missing_platform_denies() -> None:
    wants = policy(platforms=["container", "vm"])
    assert denied(decide(certificate(), wants=wants)) == {"result:vm", "suite:baseline:vm"}


def test_a_missing_suite_denies() -> None:
    assert denied(decide(certificate(), wants=policy(suites=["baseline", "hygiene"]))) == {"lock:hygiene"}
    both = lock_of(plan_of("test_a", "test_b"), plan_of("test_h", suite="hygiene"))
    wants = policy(both, suites=["baseline", "hygiene"])
    assert denied(decide(certificate(), wants=wants)) == {"suite:hygiene:container"}


def test_deselected_checks_deny() -> None:
    found = certificate(check("test_a"), deselected=(check("test_b").id,))
    assert denied(decide(found)) == {"result:container", "suite:baseline:container"}


@pytest.mark.parametrize(
    "other",
    [
        msgspec.structs.replace(plan_of("test_a", "test_b"), digest="sha256:" + "c" * 64),
        plan_of("test_a"),
        plan_of("test_a", "test_b", skips=("anything *",)),
    ],
)
def test_a_suite_of_the_same_name_with_other_bytes_or_checks_denies(other: Any) -> None:
    names = [planned.name.partition("::")[2] for planned in other.checks]
    weak = certificate(*(check(name) for name in names), plans=(other,))
    assert "lock:baseline" in denied(decide(weak))


def test_wider_settings_deny() -> None:
    run = finished(*TWO)
    wide = msgspec.structs.replace(run.suites[0], settings={"setuid_allowed": ["*"]})
    found = decide(certificate_of(msgspec.structs.replace(run, suites=(wide,))))
    assert denied(found) == {"lock:baseline"}
    assert "setuid_allowed = ['*']" in next(rule.message for rule in found.rules if rule.id == "lock:baseline")
    target = msgspec.structs.replace(run.targets[0], settings={"mode": "idle"})
    assert denied(decide(certificate_of(msgspec.structs.replace(run, targets=(target,))))) == {"settings:container"}


@pytest.mark.parametrize("kind", ["conftest", "ini", "module", "plugin"])
def test_code_that_the_lock_does_not_know_denies(kind: str) -> None:
    part = Part(kind=kind, name="more", digest=OTHER)
    found = certificate(code=(part,))
    assert denied(decide(found)) == {"code"}
    known = {"plugins": ("more",)} if kind == "plugin" else {"code": (part,)}
    assert decide(found, wants=policy(msgspec.structs.replace(lock_of(), **known))).allow  # type: ignore[arg-type]
    other = msgspec.structs.replace(part, digest=DIGEST)
    assert decide(certificate(code=(other,)), wants=policy(msgspec.structs.replace(lock_of(), **known))).allow == (  # type: ignore[arg-type]
        kind == "plugin"
    )


def test_a_missing_certificate_denies() -> None:
    assert denied(decide(certificate(), gaps=("certificate 1 of 2 is missing",))) == {"log"}


def test_without_a_lock_nothing_is_pinned() -> None:
    wants = Policy("staging", "app", Channel(requires=Requires(suites=["baseline"])), None)
    assert denied(decide(certificate(), wants=wants)) == {"lock:baseline"}


def test_a_skipped_required_check_denies() -> None:
    name = "certify_suites.baseline.test_x::test_b"
    wants = policy(checks=[name])
    assert decide(certificate(), wants=wants).allow
    skipped = certificate(check("test_a"), check("test_b", "skipped", reason="why"))
    assert denied(decide(skipped, wants=wants)) == {f"check:{name}:container"}


def test_a_named_check_must_pass_on_every_platform_in_all_its_forms() -> None:
    plans = (plan_of("test_p[1]", "test_p[2]"),)
    name = "certify_suites.baseline.test_x::test_p"
    wants = policy(lock_of(*plans), checks=[name], platforms=["container", "vm"])
    both = (check("test_p[1]"), check("test_p[2]"))
    here = certificate(*both, plans=plans, number=1)
    there = certificate(*both, plans=plans, platform="vm", number=2)
    assert decide(here, there, wants=wants).allow
    assert denied(decide(here, wants=wants)) >= {f"check:{name}:vm"}
    half = (check("test_p[1]"), check("test_p[2]", "skipped", reason="why"))
    assert denied(decide(here, certificate(*half, plans=plans, platform="vm", number=2), wants=wants)) == {
        f"check:{name}:vm"
    }


def test_a_named_check_is_that_of_the_locked_suite() -> None:
    """One of the same name in a suite of other bytes, or too old, is another check."""
    plans = (plan_of("test_a", "test_b"), plan_of("test_o", suite="ours"))
    other = msgspec.structs.replace(plans[1], digest="sha256:" + "c" * 64)
    wants = policy(lock_of(*plans), checks=["certify_suites.ours.test_x::test_o"])
    both = (*TWO, check("test_o", suite="ours"))
    assert decide(certificate(*both, plans=plans), wants=wants).allow
    assert denied(decide(certificate(*both, plans=(plans[0], other)), wants=wants)) == {"lock:ours"}
    old = certificate(check("test_o", suite="ours"), plans=plans[1:], at="2020-01-01T00:00:00Z", number=1)
    assert denied(decide(old, certificate(*TWO, plans=plans[:1], number=2), wants=wants)) == {"age"}
    unpinned = policy(lock_of(plans[0]), checks=["certify_suites.ours.test_x::test_o"])
    assert "check:certify_suites.ours.test_x::test_o:container" in denied(
        decide(certificate(*both, plans=plans), wants=unpinned)
    )


def test_a_required_check_is_not_met_by_one_whose_name_starts_alike() -> None:
    wants = policy(checks=["certify_suites.baseline.test_x::test_"])
    assert not decide(certificate(), wants=wants).allow


def test_passed_only_on_a_rerun_denies_unless_allowed() -> None:
    flaky = certificate(check("test_a"), check("test_b", "passed-on-rerun"))
    assert denied(decide(flaky)) == {"result:container", "suite:baseline:container", "retries"}
    assert decide(flaky, wants=policy(allow_warned=True)).allow


def test_age() -> None:
    assert decide(certificate(), now=NOW + timedelta(days=6)).allow
    assert denied(decide(certificate(), now=NOW + timedelta(days=8))) == {"age"}
    assert denied(decide(certificate(), now=NOW - timedelta(days=1))) == {"age"}


def test_after() -> None:
    wants = policy(after="staging")
    assert denied(decide(certificate(), wants=wants)) == {"after"}
    assert decide(certificate(), wants=wants, standing={"staging"}).allow


def test_an_unknown_channel_is_named() -> None:
    with pytest.raises(UsageError, match="no channel 'stagin'") as caught:
        policy_of(Config(), "stagin", None)
    assert "staging" in caught.value.hint


def test_passing_on_reruns_until_one_run_does_without_shows() -> None:
    flaky = certificate(check("test_a"), check("test_b", "passed-on-rerun"), at="2026-11-20T09:00:00.000000Z")
    assert denied(decide(flaky, certificate(number=2))) == {"retries"}
    assert decide(flaky, certificate(number=2), wants=policy(allow_warned=True)).allow
    assert decide(flaky, certificate(number=2), explained=frozenset(["sha256:1"])).allow


def test_a_clock_that_was_ahead_does_not_make_a_certificate_the_newer_one() -> None:
    ahead = certificate(at="2026-11-20T10:04:00.000000Z")
    for outcome in ("failed", "passed-on-rerun"):
        later = certificate(check("test_a"), check("test_b", outcome), at="2026-11-20T10:00:00.000000Z", number=2)
        assert "result:container" in denied(decide(ahead, later, wants=policy(max_failed_runs=9)))
        assert "result:container" in denied(decide(later, ahead, wants=policy(max_failed_runs=9)))


def test_a_certificate_from_the_future_is_refused_whatever_suite_it_is_of() -> None:
    plans = (*plans_for(*TWO), plan_of("test_o", suite="ours"))
    early = certificate(check("test_o", suite="ours"), plans=plans[1:], at="2027-09-01T00:00:00Z")
    assert denied(decide(early, certificate(number=2), wants=policy(lock_of(*plans)))) == {"age"}


@pytest.mark.parametrize("outcome", ["passed", "failed"])
def test_a_check_that_was_renamed_is_no_check_any_more(outcome: str) -> None:
    """Once the suite that the lock pins now has been run whole; until then its old self counts."""
    old = (msgspec.structs.replace(plan_of("test_old", "test_b"), digest="sha256:" + "c" * 64),)
    before = certificate(check("test_old", outcome), check("test_b"), plans=old)
    assert not decide(before).allow
    assert decide(before, certificate(at="2026-11-20T11:00:00Z", number=2)).allow
    narrower = plan_of("test_a")
    part = certificate(check("test_a"), plans=(narrower,), at="2026-11-20T11:00:00Z", number=2)
    assert "lock:baseline" in denied(decide(before, part))


def test_what_a_run_says_of_itself_goes_with_it() -> None:
    """A run that was ended after a failure, and explained, does not bar the whole run that follows."""
    sound = check("run_is_sound", "no-verdict", suite=OWN_SUITE)
    sound = msgspec.structs.replace(sound, id=own_check(RUN_IS_SOUND, "app:1-container"))
    ended = certificate(check("test_a"), check("test_b", "failed"), sound)
    good = certificate(at="2026-11-20T11:00:00Z", number=2)
    assert denied(decide(ended, good)) == {"retries"}
    assert decide(ended, good, explained=frozenset(["sha256:1"])).allow


@pytest.mark.parametrize(("outcome", "rules"), [("passed", set()), ("failed", {"lock:ours", "result:container"})])
def test_a_suite_that_was_only_tried_bars_nothing_unless_it_failed(outcome: str, rules: set[str]) -> None:
    tried = certificate(check("test_o", outcome, suite="ours"), plans=(plan_of("test_o", suite="ours"),))
    decision = decide(tried, certificate(at="2026-11-20T11:00:00Z", number=2))
    assert rules == (set() if decision.allow else denied(decision))


def test_of_two_signers_at_one_time_the_worse_word_counts() -> None:
    plans = plans_for(*TWO)
    failed = certificate(check("test_a"), check("test_b", "failed"), plans=plans)
    skipped = certificate(check("test_a"), check("test_b", "skipped", reason="why"), plans=plans, number=2)
    skipped.place = Place("another", 1, "")
    for order in ((failed, skipped), (skipped, failed)):
        assert "result:container" in denied(decide(*order, wants=policy(max_failed_runs=9)))


OUTCOME = st.sampled_from(
    ["passed", "failed", "skipped", "passed-on-rerun", "no-verdict", "missing", "unlisted", "twice"]
)


@given(st.lists(OUTCOME, min_size=1, max_size=8), st.integers(-3, 20))
def test_nothing_but_passed_checks_in_time_is_ever_allowed(outcomes: list[str], days: int) -> None:
    plans = (plan_of(*(f"test_{i}" for i in range(len(outcomes)))),)
    checks, twice = [], []
    for number, outcome in enumerate(outcomes):
        name = f"test_{number}"
        if outcome == "twice":
            twice.append(check(name).id)
        if outcome != "missing":
            reason = {"skipped": "why", "unlisted": "because"}.get(outcome, "")
            known = {"unlisted": "skipped", "twice": "passed"}.get(outcome, outcome)
            checks.append(check(name, known, reason=reason))
    if not checks:
        return
    run = finished(*checks, plans=plans, twice=tuple(twice))
    if run.verdicts["app:1-container"] == "NO_VERDICT":
        assert not set(outcomes) <= {"passed"}
        return
    made = certificate_of(run)
    decision = decide(made, wants=policy(lock_of(*plans)), now=NOW + timedelta(days=days))
    assert decision.allow == (set(outcomes) <= {"passed", "skipped"} and 0 <= days < 7)
    assert decision == decide(made, wants=policy(lock_of(*plans)), now=NOW + timedelta(days=days))


def test_a_plugins_rule_can_only_deny() -> None:
    def friday(policy: Policy, evidence: Evidence, now: datetime) -> Iterator[RuleResult]:
        yield RuleResult("weekday", DENY if now.weekday() == 4 else ALLOW, f"on day {now.weekday()}", "wait for Monday")

    wants = policy_of(Config(product="app"), "staging", lock_of(), [friday])
    good = certificate()
    assert "weekday" in denied(decide(good, wants=wants))  # NOW is a Friday
    monday = NOW + timedelta(days=3)
    assert {rule.id: rule.status for rule in decide(good, wants=wants, now=monday).rules}["weekday"] == ALLOW
    assert not decide(wants=wants, now=monday).allow


def test_a_plugins_rule_that_changes_the_evidence_comes_too_late() -> None:
    def forgetful(policy: Policy, evidence: Evidence, now: datetime) -> Iterator[RuleResult]:
        evidence.current.clear()
        yield RuleResult("result:container", ALLOW, "all is well")

    wants = policy_of(Config(product="app"), "staging", lock_of(), [forgetful])
    assert "result:container" in denied(decide(certificate(check("test_a", "failed"), check("test_b")), wants=wants))


def test_a_container_that_another_driver_booted_is_not_what_the_lock_pins() -> None:
    """A plugin may be let take part for a platform of its own; it does not thereby stand in for another's driver."""
    wants = policy(msgspec.structs.replace(lock_of(), platforms={"container": {"driver": "docker"}}))
    run = finished(plans=plans_for(*TWO))
    booted_by = {
        driver: msgspec.structs.replace(run.targets[0], driver=driver, settings={"driver": driver})
        for driver in ("docker", "our_box")
    }
    found = {d: certificate_of(msgspec.structs.replace(run, targets=(t,)), 1) for d, t in booted_by.items()}
    assert decide(found["docker"], wants=wants).allow
    assert denied(decide(found["our_box"], wants=wants)) == {"settings:container"}
