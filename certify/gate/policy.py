"""What a channel asks for, and what there is to judge by: the gate's inputs, already verified."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from certify.config import Channel, Config, seconds
from certify.errors import UsageError
from certify.evidence.certificate import Certificate


@dataclass(frozen=True)
class Policy:
    """One channel's rules."""

    channel: str
    product: str
    suites: tuple[str, ...]
    platforms: tuple[str, ...]
    checks: tuple[str, ...]
    after: str | None
    max_age: timedelta
    allow_warned: bool


@dataclass(frozen=True)
class Evidence:
    """Verified certificates about one digest, and the channels it stands on now."""

    digest: str
    certificates: tuple[Certificate, ...] = ()
    standing_on: frozenset[str] = field(default_factory=frozenset)


def policy_of(config: Config, channel: str) -> Policy:
    """The policy of one configured channel. Raises UsageError with the nearest name for an unknown one."""
    from difflib import get_close_matches

    if channel not in config.channels:
        near = get_close_matches(channel, config.channels, 1)
        hint = f"did you mean {near[0]}?" if near else f"channels: {', '.join(config.channels) or 'none'}"
        raise UsageError(f"no channel {channel!r} in certify.yaml", hint)
    settings: Channel = config.channels[channel]
    return Policy(
        channel=channel,
        product=config.product,
        suites=tuple(settings.requires.suites),
        platforms=tuple(settings.requires.platforms),
        checks=tuple(settings.requires.checks),
        after=settings.after,
        max_age=timedelta(seconds=seconds(settings.max_age)),
        allow_warned=settings.allow_warned,
    )
