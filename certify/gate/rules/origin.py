"""Rules about where a pass comes from: the certificates are all there, of the locked suites, and nothing else took part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from certify.evidence.certificate import Certificate
from certify.gate.decision import ALLOW, DENY, RuleResult
from certify.gate.policy import Evidence, Policy, governing_suites, required_platforms


def certified(policy: Policy, evidence: Evidence, now: datetime) -> Iterator[RuleResult]:
    """There are certificates about this digest, product and config."""
    del now
    digests = tuple(c.digest for c in evidence.certificates)
    other = [c for c in evidence.certificates if c.config_digest != evidence.config_digest]
    if other:
        message = (
            f"{len(other)} certificates are about the config {other[0].config_digest}, not {evidence.config_digest}"
        )
        yield RuleResult("certified", DENY, message, "run the suites again and sign", tuple(c.digest for c in other))
    elif digests:
        told = f"{len(digests)} valid certificate{'s' if len(digests) > 1 else ''}"
        yield RuleResult("certified", ALLOW, told)
    else:
        message = f"no valid certificate about this digest for the product {policy.product}"
        yield RuleResult("certified", DENY, message, "run the suites on it and sign: pytest --image REF --sign")


def complete_log(policy: Policy, evidence: Evidence, now: datetime) -> Iterator[RuleResult]:
    """No certificate that was ever signed about this digest is missing."""
    del policy, now
    if evidence.gaps:
        message = f"not every certificate about this digest is there: {'; '.join(evidence.gaps[:3])}"
        yield RuleResult("log", DENY, message, "restore what was deleted from trust.certificates, or build a new image")
    else:
        yield RuleResult("log", ALLOW, "no certificate about this digest is missing")


def locked(policy: Policy, evidence: Evidence, now: datetime) -> Iterator[RuleResult]:
    """Every suite that took part was run as ``certify.lock`` pins it, required or not: bytes, plan, settings."""
    del now
    beside = {suite for c in evidence.current.values() for suite in c.suites}
    for suite in dict.fromkeys([*governing_suites(policy), *sorted(beside)]):
        pinned = policy.lock.suites.get(suite) if policy.lock else None
        if pinned is None:
            known = "certify.lock does" if policy.lock else "there is no certify.lock, which would"
            message = f"{known} {'not ' if policy.lock else ''}pin {suite}" + (
                ", whose code took part" if suite in beside else ""
            )
            remedy = f"put {suite} under suites: in certify.yaml (a folder by its path, ./{suite}), then: certify lock"
            yield RuleResult(f"lock:{suite}", DENY, message, remedy)
            continue
        wanted = {"files": pinned.digest, "plan": pinned.plan, "settings": pinned.settings}
        wrong, used = set(), _current(policy, evidence, suite)
        for certificate in used:
            has = certificate.suites[suite]
            found = {"files": has.digest, "plan": has.plan, "settings": has.settings}
            wrong |= {_what(name, found[name], wanted[name]) for name in wanted if found[name] != wanted[name]}
        digests = tuple(c.digest for c in used)
        if wrong:
            message = f"{suite} was run with others than certify.lock pins: {'; '.join(sorted(wrong))}"
            remedy = (
                f"run the pinned suite, or pin this one: certify lock, then pytest --image REF --suite {suite} --sign"
            )
            yield RuleResult(f"lock:{suite}", DENY, message, remedy, digests)
        else:
            message = f"{suite} {pinned.version} is pinned" if not used else f"{suite} {pinned.version} as it is pinned"
            yield RuleResult(f"lock:{suite}", ALLOW, message, evidence=digests)


def settings(policy: Policy, evidence: Evidence, now: datetime) -> Iterator[RuleResult]:
    """The platforms' settings that decide what is checked are those of the lock."""
    del now
    pinned = policy.lock.platforms if policy.lock else {}
    for platform in required_platforms(policy, evidence):
        wanted = pinned.get(platform, {})
        for certificate in _unique(c for (where, _, _), c in evidence.current.items() if where == platform):
            found = certificate.platform_settings
            differ = sorted(k for k in {*wanted, *found} if wanted.get(k) != found.get(k))
            if differ:
                told = ", ".join(f"{k} is {found.get(k)!r}, not {wanted.get(k)!r}" for k in differ)
                message = f"{platform} was set otherwise than certify.lock pins: {told}"
                remedy = "run with the pinned settings, or pin these: certify lock"
                yield RuleResult(f"settings:{platform}", DENY, message, remedy, (certificate.digest,))
                break
        else:
            yield RuleResult(f"settings:{platform}", ALLOW, f"{platform} was set as certify.lock pins it")


def foreign_code(policy: Policy, evidence: Evidence, now: datetime) -> Iterator[RuleResult]:
    """Nothing took part in the runs but the suites and what the lock allows by name."""
    del now
    used = _unique(evidence.current.values())
    strange = sorted({p for c in used for p in c.code if policy.lock is None or not policy.lock.allows(p)})
    if not strange:
        yield RuleResult("code", ALLOW, "nothing took part beside the suites that certify.lock does not allow")
        return
    told = ", ".join(f"{part.kind} {part.name}" for part in strange[:5])
    files = [part.name for part in strange if part.kind != "plugin"]
    remedy = "run without it (in a folder of its own, or with -p no:NAME), or allow it by name: "
    remedy += f"allow: [{', '.join(files)}] in certify.yaml, then certify lock" if files else "certify lock"
    more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
    yield RuleResult(
        "code",
        DENY,
        f"took part, and certify.lock does not know it: {told}{more}",
        remedy,
        tuple(c.digest for c in used),
    )


def _current(policy: Policy, evidence: Evidence, suite: str) -> list[Certificate]:
    """The current certificates whose runs used a suite, on the platforms that count."""
    platforms = required_platforms(policy, evidence)
    return _unique(c for (where, _, _), c in evidence.current.items() if suite in c.suites and where in platforms)


def _unique(certificates: Iterable[Certificate]) -> list[Certificate]:
    return list({c.digest: c for c in certificates}.values())


def _what(name: str, found: object, wanted: object) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        differ = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
        return f"settings {', '.join(f'{k} = {found.get(k)!r}, pinned {wanted.get(k)!r}' for k in differ)}"
    return f"{name} {str(found)[:19]}, pinned {str(wanted)[:19]}"


RULES = (certified, complete_log, locked, settings, foreign_code)
