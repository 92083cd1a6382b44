"""The gate: a pure function from policy, evidence and time to a decision.

Every rule is asked, none short-circuits, and a rule with nothing to go by denies. Certificates about other digests or
products are never looked at; the newest certificate of a platform counts, so that a later failure is not hidden by an
earlier pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from certify.evidence.certificate import Certificate
from certify.evidence.run import suite_of
from certify.gate.decision import ALLOW, DENY, Decision, RuleResult
from certify.gate.policy import Evidence, Policy


def evaluate(policy: Policy, evidence: Evidence, now: datetime) -> Decision:
    """Decide whether ``evidence.digest`` may stand on ``policy.channel`` at ``now``. No I/O, no clock of its own."""
    ours = [c for c in evidence.certificates if evidence.digest in c.subjects and c.product == policy.product]
    ours.sort(key=lambda certificate: certificate.finished, reverse=True)
    rules = [_certified(policy, ours), *_platforms(policy, ours), *_suites(policy, ours), *_checks(policy, ours)]
    rules += [_age(policy, ours, now), *_after(policy, evidence)]
    return Decision(policy.channel, evidence.digest, now.strftime("%Y-%m-%dT%H:%M:%SZ"), tuple(rules))


def _certified(policy: Policy, ours: Sequence[Certificate]) -> RuleResult:
    if ours:
        return RuleResult(
            "certified",
            ALLOW,
            f"{len(ours)} valid certificate{'s' if len(ours) > 1 else ''}",
            evidence=tuple(c.digest for c in ours),
        )
    return RuleResult(
        "certified",
        DENY,
        f"no valid certificate about this digest for the product {policy.product}",
        "run the suites on it and sign: pytest --image REF --sign",
    )


def _platforms(policy: Policy, ours: Sequence[Certificate]) -> Iterator[RuleResult]:
    """The newest certificate of every platform that is required or was tried must have passed."""
    for platform in sorted({*policy.platforms, *(c.platform for c in ours)}):
        newest = next((c for c in ours if c.platform == platform), None)
        rule = f"result:{platform}"
        again = f"fix the image, build it anew and run the suites on {platform}"
        if newest is None:
            yield RuleResult(rule, DENY, f"never certified on {platform}", f"run the suites with --platform {platform}")
        elif newest.result == "PASSED" or (newest.result == "WARNED" and policy.allow_warned):
            yield RuleResult(rule, ALLOW, f"{newest.result} on {platform}, run {newest.run}", evidence=(newest.digest,))
        elif newest.result == "WARNED":
            message = f"{len(newest.warned)} checks on {platform} passed only on a rerun: {_some(newest.warned)}"
            yield RuleResult(rule, DENY, message, "make them steady, or set allow_warned", (newest.digest,))
        else:
            message = f"{len(newest.failed)} checks failed on {platform}: {_some(newest.failed)}"
            yield RuleResult(rule, DENY, message, again, (newest.digest,))


def _suites(policy: Policy, ours: Sequence[Certificate]) -> Iterator[RuleResult]:
    """Every required suite must have passed in whole on every required platform (on any, when none is required)."""
    for suite in policy.suites:
        for platform in policy.platforms or ("",):
            where = f" on {platform}" if platform else ""
            rule = f"suite:{suite}{':' + platform if platform else ''}"
            found = next((c for c in ours if suite in c.suites and platform in ("", c.platform)), None)
            if found is None:
                message, remedy = f"{suite} was never run{where}", f"run it: pytest --image REF --suite {suite} --sign"
                yield RuleResult(rule, DENY, message, remedy)
                continue
            mine = {check for check in found.collected if suite_of(check) == suite}
            bad = mine & found.failed
            left_out = sorted(check for check in found.deselected if suite_of(check) == suite)
            if left_out:
                message = f"{len(left_out)} checks of {suite} were deselected{where}: {_some(frozenset(left_out))}"
                yield RuleResult(rule, DENY, message, "run the whole suite", (found.digest,))
            elif not mine & (found.passed | found.warned) or bad:
                message = f"{len(bad)} checks of {suite} failed{where}" if bad else f"no check of {suite} passed{where}"
                yield RuleResult(rule, DENY, message, "fix the image and run it again", (found.digest,))
            else:
                message = f"{len(mine & found.passed)} checks of {suite} passed{where}"
                yield RuleResult(rule, ALLOW, message, evidence=(found.digest,))


def _checks(policy: Policy, ours: Sequence[Certificate]) -> Iterator[RuleResult]:
    """A named check must have passed: deselecting or skipping it shows here."""
    for check in policy.checks:
        found = next((c for c in ours if any(_names(check, name) for name in c.passed)), None)
        if found is None:
            yield RuleResult(
                f"check:{check}", DENY, f"{check} did not pass", "run it without deselecting or skipping it"
            )
        else:
            yield RuleResult(f"check:{check}", ALLOW, f"{check} passed", evidence=(found.digest,))


def _age(policy: Policy, ours: Sequence[Certificate], now: datetime) -> RuleResult:
    if not ours:
        return RuleResult("age", DENY, "nothing to take the age of", "run the suites on it and sign")
    newest = ours[0]
    age = now - newest.finished
    if age.total_seconds() < -300:
        message = f"certificate {newest.digest} is from the future ({newest.finished:%Y-%m-%d %H:%M} UTC)"
        return RuleResult("age", DENY, message, "set the clocks right", (newest.digest,))
    if age > policy.max_age:
        message = f"the newest certificate is {age.days} days old, {policy.max_age.days} are allowed"
        return RuleResult("age", DENY, message, "run the suites again and sign", (newest.digest,))
    return RuleResult("age", ALLOW, f"certified at {newest.finished:%Y-%m-%d %H:%M} UTC", evidence=(newest.digest,))


def _after(policy: Policy, evidence: Evidence) -> Iterator[RuleResult]:
    if policy.after is None:
        return
    if policy.after in evidence.standing_on:
        yield RuleResult("after", ALLOW, f"stands on {policy.after}")
    else:
        remedy = f"promote it first: certify promote REF --to {policy.after}"
        yield RuleResult("after", DENY, f"does not stand on {policy.after}", remedy)


def _names(required: str, check: str) -> bool:
    """``required`` is a check's id, with or without the target in brackets."""
    return check == required or check.startswith(required + "[")


def _some(names: frozenset[str]) -> str:
    short = sorted((name.partition("::")[2] or name).partition("[")[0] for name in names)
    return ", ".join(short[:5]) + (f" and {len(short) - 5} more" if len(short) > 5 else "")
