"""The gate: a pure function from policy, evidence and time to a decision.

A rule is a function ``rule(policy, evidence, now)`` that yields results; each file here holds a group of them, and plugins
bring more (:meth:`certify.hooks.Hooks.certify_gate_rules`), which can only deny what the others allow. Every rule is asked,
none short-circuits, and one with nothing to go by denies. Evidence is only ever read through what is current
(:attr:`Evidence.current`): a check's newest certificate counts, so that neither a failure nor an old age is hidden by a newer
run of something else.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from certify.gate.decision import Decision
from certify.gate.policy import Evidence, Policy, Rule
from certify.gate.rules import freshness, origin, outcomes

RULES: tuple[Rule, ...] = (*origin.RULES, *outcomes.RULES, *freshness.RULES)


def evaluate(policy: Policy, evidence: Evidence, now: datetime) -> Decision:
    """Decide whether ``evidence.digest`` may stand on ``policy.name`` at ``now``. No I/O, no clock of its own."""
    about = [c for c in evidence.certificates if c.subject == evidence.digest and c.product == policy.product]
    ours = replace(evidence, certificates=tuple(about), lock=policy.lock)
    found = tuple(result for rule in (*RULES, *policy.more_rules) for result in rule(policy, ours, now))
    return Decision(policy.name, evidence.digest, now.strftime("%Y-%m-%dT%H:%M:%SZ"), found)
