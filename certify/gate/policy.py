"""What a channel asks for, and what there is to judge by: the gate's inputs, already verified."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property

from certify.config import Channel, Config
from certify.errors import UsageError
from certify.evidence.certificate import Certificate
from certify.evidence.run import OWN_SUITE
from certify.gate.lock import Lock

#: A check on a platform: the platform, the suite, the check's name.
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Policy:
    """One channel's rules: its settings, and the lock that pins what the suites are."""

    name: str
    product: str
    channel: Channel
    lock: Lock | None


@dataclass(frozen=True)
class Evidence:
    """Verified certificates about one digest, and the channels it stands on now.

    ``gaps`` are lines about certificates that must exist and are missing; ``explained`` are digests of failed certificates
    that somebody with the right to it has explained.
    """

    digest: str
    config_digest: str
    certificates: tuple[Certificate, ...] = ()
    standing_on: frozenset[str] = field(default_factory=frozenset)
    gaps: tuple[str, ...] = ()
    explained: frozenset[str] = field(default_factory=frozenset)

    @cached_property
    def current(self) -> dict[Key, Certificate]:
        """Per platform and check, the newest certificate that planned it; of two of one time the one that did not pass it."""
        found: dict[Key, Certificate] = {}
        for certificate in sorted(self.certificates, key=lambda c: c.finished):
            used = {suite: used.checks for suite, used in certificate.suites.items()} | {OWN_SUITE: certificate.own}
            for suite, checks in used.items():
                for name in checks:
                    key = (certificate.platform, suite, name)
                    before = found.get(key)
                    tie = before is not None and before.finished == certificate.finished
                    if not (tie and name in certificate.passed):
                        found[key] = certificate
        return found

    @cached_property
    def platforms(self) -> tuple[str, ...]:
        """Every platform that something was certified on."""
        return tuple(sorted({certificate.platform for certificate in self.certificates}))


def policy_of(config: Config, channel: str, lock: Lock | None) -> Policy:
    """The policy of one configured channel. Raises UsageError with the nearest name for an unknown one."""
    if channel not in config.channels:
        near = get_close_matches(channel, config.channels, 1)
        hint = f"did you mean {near[0]}?" if near else f"channels: {', '.join(config.channels) or 'none'}"
        raise UsageError(f"no channel {channel!r} in certify.yaml", hint)
    return Policy(channel, config.product, config.channels[channel], lock)


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
