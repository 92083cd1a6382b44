"""The gate: a pure function from policy, evidence and time to a decision.

A rule is a function ``rule(policy, evidence, now)`` that yields results. Every rule is asked, none short-circuits, and one
with nothing to go by denies. Evidence is only ever read through what is current (:attr:`Evidence.current`): a check's newest
certificate counts, so that neither a failure nor an old age is hidden by a newer run of something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from certify.gate.decision import Decision, RuleResult
from certify.gate.policy import Evidence, Policy
from certify.gate.rules import freshness, origin, outcomes

Rule = Callable[[Policy, Evidence, datetime], Iterator[RuleResult]]
RULES: tuple[Rule, ...] = (
    origin.certified,
    origin.complete_log,
    outcomes.results,
    outcomes.suites,
    outcomes.checks,
    outcomes.retries,
    origin.locked,
    origin.settings,
    origin.foreign_code,
    freshness.age,
    freshness.after,
)


def evaluate(policy: Policy, evidence: Evidence, now: datetime) -> Decision:
    """Decide whether ``evidence.digest`` may stand on ``policy.name`` at ``now``. No I/O, no clock of its own."""
    about = [c for c in evidence.certificates if c.subject == evidence.digest and c.product == policy.product]
    ours = replace(evidence, certificates=tuple(about), lock=policy.lock)
    found = tuple(result for rule in RULES for result in rule(policy, ours, now))
    return Decision(policy.name, evidence.digest, now.strftime("%Y-%m-%dT%H:%M:%SZ"), found)
