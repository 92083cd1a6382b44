"""What a gate says: allowed or not, every rule with its reason and remedy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

ALLOW, DENY = "pass", "fail"


@dataclass(frozen=True)
class RuleResult:
    """One rule's answer. ``evidence`` are certificate digests it rests on; ``solution`` is what would change it."""

    id: str
    status: str
    message: str
    solution: str = ""
    evidence: tuple[str, ...] = ()
    exception_used: str = ""


@dataclass(frozen=True)
class Decision:
    """The gate's answer for one digest and channel. Pure data; the same inputs give the same decision."""

    channel: str
    digest: str
    at: str
    rules: tuple[RuleResult, ...]

    @property
    def allow(self) -> bool:
        """Whether every rule passed; no rule at all denies."""
        return bool(self.rules) and all(rule.status == ALLOW for rule in self.rules)

    @property
    def what_would_change_it(self) -> tuple[str, ...]:
        """The remedies of the rules that deny."""
        return tuple(rule.solution for rule in self.rules if rule.status != ALLOW)

    @property
    def evidence(self) -> tuple[str, ...]:
        """Every certificate that any rule rests on."""
        return tuple(dict.fromkeys(digest for rule in self.rules for digest in rule.evidence))

    def to_json(self) -> dict[str, Any]:
        """The shape ``certify gate --json`` prints."""
        return {
            "channel": self.channel,
            "digest": self.digest,
            "at": self.at,
            "allow": self.allow,
            "rules": [asdict(rule) for rule in self.rules],
            "whatWouldChangeIt": list(self.what_would_change_it),
        }
