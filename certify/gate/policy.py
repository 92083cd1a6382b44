"""What a channel asks for, and what there is to judge by: the gate's inputs, already verified."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from functools import cached_property

from certify.config import Channel, Config
from certify.errors import UsageError
from certify.evidence.certificate import Certificate
from certify.evidence.run import OWN_SUITE
from certify.gate.decision import RuleResult
from certify.gate.lock import Lock

#: A check on a platform: the platform, the suite, the check's name.
Key = tuple[str, str, str]
#: What a rule is: of a policy, the evidence and the time, it yields what it finds.
Rule = Callable[["Policy", "Evidence", datetime], Iterator[RuleResult]]
_BAD = 2


@dataclass(frozen=True)
class Policy:
    """One channel's rules: its settings, the lock that pins what the suites are, and rules of plugins."""

    name: str
    product: str
    channel: Channel
    lock: Lock | None
    more_rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """Verified certificates about one digest, and the channels it stands on now.

    ``gaps`` are lines about certificates that must exist and are missing; ``explained`` are digests of failed certificates
    that somebody with the right to it has explained; ``lock`` is the policy's.
    """

    digest: str
    config_digest: str
    certificates: tuple[Certificate, ...] = ()
    standing_on: frozenset[str] = field(default_factory=frozenset)
    gaps: tuple[str, ...] = ()
    explained: frozenset[str] = field(default_factory=frozenset)
    lock: Lock | None = None

    @cached_property
    def current(self) -> dict[Key, Certificate]:
        """Per platform and check, the newest certificate that planned it; of two of one time the one that says worse of it.

        Where the suite that the lock pins has been run, checks that only its earlier self had are no longer its own. What a
        run says of itself counts as long as it is current for a check, and so does what passed in a suite nobody pins.
        """
        found: dict[tuple[str, str], dict[str, Certificate]] = {}
        order = self._order
        for certificate in sorted(self.certificates, key=lambda c: order[c.digest]):
            used = {suite: used.checks for suite, used in certificate.suites.items()} | {OWN_SUITE: certificate.own}
            for suite, checks in used.items():
                place = (certificate.platform, suite)
                before = found.get(place, {})
                if self._is_pinned(certificate, suite):
                    before = {name: before[name] for name in checks & before.keys()}
                tied = {n for n in checks & before.keys() if _tie(before[n], certificate, order)}
                better = {name for name in tied if _badness(certificate, name) < _badness(before[name], name)}
                found[place] = before | dict.fromkeys(checks - better, certificate)
        return self._without_idle(
            {(*place, name): certificate for place, mine in found.items() for name, certificate in mine.items()}
        )

    def _without_idle(self, found: dict[Key, Certificate]) -> dict[Key, Certificate]:
        """Without what certificates say that are current for no check of a suite that counts."""
        counts = {suite for _, suite, _ in found if suite != OWN_SUITE} if self.lock is None else set(self.lock.suites)
        used = {certificate.digest for (_, suite, _), certificate in found.items() if suite in counts}
        if not used:
            return found
        return {
            key: certificate
            for key, certificate in found.items()
            if certificate.digest in used or not (key[1] == OWN_SUITE or _badness(certificate, key[2]) < _BAD)
        }

    @property
    def _order(self) -> dict[str, tuple[datetime, int]]:
        """By certificate, what it is ordered by: its time, and of one signer's the number. A signer's later certificate is
        never older than an earlier one, whatever its clock said."""
        latest: dict[str, datetime] = {}
        found = {}
        for certificate in sorted(self.certificates, key=lambda c: c.place.number):
            log = certificate.place.log
            latest[log] = max(certificate.finished, latest.get(log, certificate.finished))
            found[certificate.digest] = (latest[log], certificate.place.number)
        return found

    def _is_pinned(self, certificate: Certificate, suite: str) -> bool:
        """Whether a certificate's run used a suite with the bytes and the plan that the lock pins."""
        pinned = self.lock.suites.get(suite) if self.lock else None
        used = certificate.suites.get(suite)
        return pinned is not None and used is not None and (used.digest, used.plan) == (pinned.digest, pinned.plan)

    @cached_property
    def platforms(self) -> tuple[str, ...]:
        """Every platform that something was certified on."""
        return tuple(sorted({certificate.platform for certificate in self.certificates}))


def _tie(one: Certificate, other: Certificate, order: dict[str, tuple[datetime, int]]) -> bool:
    """Whether neither of two certificates is the newer: of one time, and of two signers."""
    return order[one.digest][0] == order[other.digest][0] and one.place.log != other.place.log


def _badness(certificate: Certificate, name: str) -> int:
    """How bad a certificate's word on a check is: passed, not quite, or :data:`_BAD`."""
    if name in certificate.passed:
        return 0
    return 1 if name in certificate.warned or name in certificate.skipped else _BAD


def policy_of(config: Config, channel: str, lock: Lock | None, more_rules: Iterable[Rule] = ()) -> Policy:
    """The policy of one configured channel. Raises UsageError with the nearest name for an unknown one."""
    if channel not in config.channels:
        near = get_close_matches(channel, config.channels, 1)
        hint = f"did you mean {near[0]}?" if near else f"channels: {', '.join(config.channels) or 'none'}"
        raise UsageError(f"no channel {channel!r} in certify.yaml", hint)
    return Policy(channel, config.product, config.channels[channel], lock, tuple(more_rules))


def governing_suites(policy: Policy) -> tuple[str, ...]:
    """The suites a channel rests on: those it requires, and those of the lock that hold a check it names."""
    locked = policy.lock.suites if policy.lock else {}
    named = [
        name
        for wanted in policy.channel.requires.checks
        for name, suite in locked.items()
        if any(fits(wanted, check.name) for check in suite.checks)
    ]
    return tuple(dict.fromkeys([*policy.channel.requires.suites, *named]))


def fits(wanted: str, name: str) -> bool:
    """Whether a check's name is the one a channel names; without brackets that means every parameter."""
    return wanted in (name, name.partition("[")[0])


def required_platforms(policy: Policy, evidence: Evidence) -> tuple[str, ...]:
    """The platforms that a channel names, else every one that was tried."""
    return tuple(policy.channel.requires.platforms) or evidence.platforms
