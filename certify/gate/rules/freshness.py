"""Rules about time and place: nothing counts that is too old, and channels come one after another."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from certify.gate.decision import ALLOW, DENY, RuleResult
from certify.gate.policy import Evidence, Policy, governing_suites
from certify.models import seconds

_SKEW = timedelta(minutes=5)


def age(policy: Policy, evidence: Evidence, now: datetime) -> Iterator[RuleResult]:
    """The oldest certificate that anything required rests on is young enough, and none is from the future."""
    required = set(governing_suites(policy))
    used = [c for (_, suite, _), c in evidence.current.items() if not required or suite in required]
    if not used:
        yield RuleResult("age", DENY, "nothing to take the age of", "run the suites on it and sign")
        return
    oldest, newest = min(used, key=lambda c: c.finished), max(evidence.current.values(), key=lambda c: c.finished)
    allowed = timedelta(seconds=seconds(policy.channel.max_age))
    if newest.finished - now > _SKEW:
        message = f"certificate {newest.digest} is from the future ({newest.finished:%Y-%m-%d %H:%M} UTC)"
        yield RuleResult("age", DENY, message, "set the clocks right", (newest.digest,))
    elif now - oldest.finished > allowed:
        old = now - oldest.finished
        message = f"its oldest certificate is {old.days} days old, {allowed.days} are allowed"
        yield RuleResult("age", DENY, message, "run the suites again and sign", (oldest.digest,))
    else:
        message = f"certified at {oldest.finished:%Y-%m-%d %H:%M} UTC or later"
        yield RuleResult("age", ALLOW, message, evidence=(oldest.digest,))


def after(policy: Policy, evidence: Evidence, now: datetime) -> Iterator[RuleResult]:
    """The digest stands on the channel that comes before."""
    del now
    before = policy.channel.after
    if before is None:
        return
    if before in evidence.standing_on:
        yield RuleResult("after", ALLOW, f"stands on {before}")
    else:
        yield RuleResult(
            "after", DENY, f"does not stand on {before}", f"promote it first: certify promote REF --to {before}"
        )


RULES = (age, after)
