"""Rules about outcomes: every planned check passed where it must, and how often it did not before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from certify.evidence.certificate import Certificate
from certify.evidence.plan import PlannedCheck
from certify.gate.decision import ALLOW, DENY, RuleResult
from certify.gate.policy import Evidence, Policy, fits, required_platforms

_REPAIR = "fix the image, build it anew and run the suites on it"


def results(policy: Policy, evidence: Evidence, now: datetime) -> Iterator[RuleResult]:
    """On every platform that is required or was tried, nothing that is current failed or went missing."""
    del now
    for platform in sorted({*policy.channel.requires.platforms, *evidence.platforms}):
        mine = {(suite, name): c for (where, suite, name), c in evidence.current.items() if where == platform}
        digests = _digests(mine.values())
        bad = sorted(name for (_, name), c in mine.items() if name in c.failed | c.unknown)
        fine = ("PASSED", "WARNED") if policy.channel.allow_warned else ("PASSED",)
        short = sorted({c.run for c in mine.values() if c.result not in fine})
        odd = sorted({name for c in mine.values() for name in c.unplanned | c.doubtful})
        rule = f"result:{platform}"
        if not mine:
            remedy = f"run the suites with --platform {platform} --sign"
            yield RuleResult(rule, DENY, f"never certified on {platform}", remedy)
        elif bad:
            yield RuleResult(rule, DENY, f"{len(bad)} checks failed on {platform}: {some(bad)}", _REPAIR, digests)
        elif odd:
            message = f"{len(odd)} checks on {platform} are in no plan, or were collected twice: {some(odd)}"
            yield RuleResult(rule, DENY, message, "run the suites as they are, nothing beside them", digests)
        elif short:
            message = f"not all that was planned on {platform} passed in run {', '.join(short)}"
            yield RuleResult(rule, DENY, message, f"run the suites whole on {platform} and sign", digests)
        else:
            message = f"{len(mine)} checks on {platform}, none failed; run {', '.join(_runs(mine.values()))}"
            yield RuleResult(rule, ALLOW, message, evidence=digests)


def suites(policy: Policy, evidence: Evidence, now: datetime) -> Iterator[RuleResult]:
    """Every check that a required suite's locked plan has passed, on every required platform (on all tried, if none is named)."""
    del now
    for suite in policy.channel.requires.suites:
        locked = policy.lock.suites.get(suite) if policy.lock else None
        platforms = required_platforms(policy, evidence)
        for platform in platforms if locked else ():
            yield _suite(policy, evidence, suite, platform, locked.checks if locked else ())
        if locked and not platforms:
            remedy = f"run it: pytest --image REF --suite {suite} --sign"
            yield RuleResult(f"suite:{suite}", DENY, f"{suite} was never run", remedy)
    if not policy.channel.requires.suites and not policy.channel.requires.checks:
        after = policy.channel.after is not None
        told = "asks for no suite and no check" + (f" beyond {policy.channel.after}'s" if after else "")
        remedy = "name suites under requires: in certify.yaml"
        yield RuleResult("suites", ALLOW if after else DENY, f"{policy.name} {told}", "" if after else remedy)


def _suite(
    policy: Policy, evidence: Evidence, suite: str, platform: str, planned: Iterable[PlannedCheck]
) -> RuleResult:
    rule, used, passed, bad = f"suite:{suite}:{platform}", [], 0, dict[str, list[str]]()
    for check in planned:
        certificate = evidence.current.get((platform, suite, check.name))
        how = _how(certificate, check, platform, warned_counts=policy.channel.allow_warned)
        passed += how == "passed"
        if certificate is not None:
            used.append(certificate)
        if how not in ("passed", "skipped"):
            bad.setdefault(how, []).append(check.name)
    if bad and not used:
        remedy = f"run it: pytest --image REF --suite {suite} --platform {platform} --sign"
        return RuleResult(rule, DENY, f"{suite} was never run on {platform}", remedy)
    if bad:
        told = "; ".join(f"{len(names)} {how}: {some(names)}" for how, names in bad.items())
        remedy = f"run the whole suite to its end: pytest --image REF --suite {suite} --platform {platform} --sign"
        remedy = _REPAIR if "failed" in bad else remedy
        return RuleResult(rule, DENY, f"{suite} on {platform}: {told}", remedy, _digests(used))
    if not passed:
        return RuleResult(
            rule, DENY, f"no check of {suite} passed on {platform}", "ask for it where it applies", _digests(used)
        )
    return RuleResult(rule, ALLOW, f"{passed} checks of {suite} passed on {platform}", evidence=_digests(used))


def _how(certificate: Certificate | None, check: PlannedCheck, platform: str, *, warned_counts: bool) -> str:
    """How one planned check ended in the certificate that is current for it."""
    name = check.name
    if certificate is None:
        return "never run"
    if name in certificate.doubtful:
        return "in doubt"
    if name in certificate.skipped:
        listed = check.may_be_skipped(platform, certificate.skipped[name])
        return "skipped" if listed else "skipped for a reason the plan does not list"
    if name in certificate.warned:
        return "passed" if warned_counts else "passed only on a rerun"
    told = {
        "failed": certificate.failed,
        "deselected": certificate.deselected,
        "without a verdict": certificate.unknown,
    }
    return (
        "passed"
        if name in certificate.passed
        else next((how for how, names in told.items() if name in names), "missing")
    )


def checks(policy: Policy, evidence: Evidence, now: datetime) -> Iterator[RuleResult]:
    """A named check passed, in all its forms, on every required platform. A name without brackets means every parameter."""
    del now
    locked = policy.lock.suites if policy.lock else {}
    for wanted in policy.channel.requires.checks:
        planned = [(suite, c.name) for suite, pinned in locked.items() for c in pinned.checks if fits(wanted, c.name)]
        for platform in required_platforms(policy, evidence) or ("",):
            found = {key: evidence.current.get((platform, *key)) for key in planned}
            mine = {name: certificate for (_, name), certificate in found.items() if certificate is not None}
            bad = len(mine) < len(found) or any(name not in c.passed for name, c in mine.items())
            rule = f"check:{wanted}" + (f":{platform}" if platform else "")
            if not mine or bad:
                remedy = "run it, without leaving it out or skipping it"
                told = f"{wanted} did not pass" + (f" on {platform}" if platform else "")
                yield RuleResult(rule, DENY, told, remedy, _digests(mine.values()))
            else:
                yield RuleResult(rule, ALLOW, f"{wanted} passed on {platform}", evidence=_digests(mine.values()))


def retries(policy: Policy, evidence: Evidence, now: datetime) -> Iterator[RuleResult]:
    """How often the suites, as they are locked, did not pass on this digest before, or only on a rerun: trying until it is
    green shows."""
    del now
    failed = [c for c in evidence.certificates if _as_locked(policy, c)]
    counted = [c for c in failed if c.digest not in evidence.explained]
    told = f"{len(failed)} failed run{'s' if len(failed) != 1 else ''} of this digest"
    told += f", {len(failed) - len(counted)} explained" if len(counted) < len(failed) else ""
    told += "".join(
        f"; {c.finished:%Y-%m-%d %H:%M} on {c.platform}: {some(_not_passed(policy, c))}" for c in failed[:3]
    )
    most = policy.channel.max_failed_runs
    if len(counted) > most:
        remedy = f"build a new image, or explain each: certify explain {counted[0].digest} --reason TEXT"
        message = f"{told}; {len(counted)} unexplained, {most} allowed"
        yield RuleResult("retries", DENY, message, remedy, _digests(counted))
    else:
        yield RuleResult("retries", ALLOW, told)


def _as_locked(policy: Policy, certificate: Certificate) -> bool:
    """Whether a check did not pass in a suite as the lock pins it; what a mended suite's old self said does not count."""
    locked = policy.lock.suites if policy.lock else {}
    ours = [name for name, used in certificate.suites.items() if name in locked and used.digest == locked[name].digest]
    bad = _not_passed(policy, certificate)
    return any(certificate.suites[name].checks & bad for name in ours) or bool(certificate.own & bad)


def _not_passed(policy: Policy, certificate: Certificate) -> frozenset[str]:
    """The checks that failed, and those that failed first and passed on a rerun, where the channel counts that for nothing."""
    return certificate.failed | (frozenset() if policy.channel.allow_warned else certificate.warned)


def _digests(certificates: Iterable[Certificate]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(certificate.digest for certificate in certificates))


def _runs(certificates: Iterable[Certificate]) -> list[str]:
    return sorted({certificate.run for certificate in certificates})


def some(names: Iterable[str]) -> str:
    """A few names, short."""
    short = sorted({(name.partition("::")[2] or name) for name in names})
    return ", ".join(short[:5]) + (f" and {len(short) - 5} more" if len(short) > 5 else "")


RULES = (results, suites, checks, retries)
