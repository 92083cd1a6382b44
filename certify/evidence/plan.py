"""A suite's plan: every check it has, by name, and the reasons for which each may be skipped.

A plan is worked out apart from the run that is judged and depends on the suite's bytes alone, so it can be pinned by its
digest (``certify.lock``). A run is complete when every planned check has an outcome on every target; what is missing,
deselected, renamed, collected twice or skipped for another reason shows.

A check's *name* is its id without the target: ``certify_suites.boot.test_units::test_x`` or ``…::test_y[passwd-420]``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from msgspec import Struct

PLAN_SCHEMA = "certify.plan/v1"
#: Stands in a planned check's template where a run writes the target's id.
TARGET = "certify-planned-target"
#: What ``needs(...)`` may name and only a running node shows that it has.
KNOWN_AFTER_BOOT = ("package-manager",)


class PlannedCheck(Struct, frozen=True, kw_only=True):
    """One check. ``template`` is its id with :data:`TARGET` in it; ``skips`` are patterns of the reasons its suite's own
    code may skip it for; ``platforms`` and ``needs`` say where it applies."""

    template: str
    platforms: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    skips: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The id without a target."""
        for found, left in ((f"[{TARGET}]", ""), (f"[{TARGET}-", "["), (f"-{TARGET}]", "]"), (f"-{TARGET}-", "-")):
            if found in self.template:
                return self.template.replace(found, left, 1)
        return self.template

    def id_on(self, target: str) -> str:
        """The id on one target, as pytest has it."""
        return self.template.replace(TARGET, target, 1)

    def inapplicable(self, platform: str, offers: Iterable[str]) -> str:
        """Why it cannot apply to an image that offers ``offers`` on ``platform``; empty when it does."""
        if self.platforms and platform not in self.platforms:
            return f"applies to {', '.join(sorted(self.platforms))} only"
        known = set(offers)
        for need in self.needs:
            if need not in KNOWN_AFTER_BOOT and need not in known:
                return lacks(need, platform)
        return ""

    def may_be_skipped(self, platform: str, reason: str) -> bool:
        """Whether ``reason`` is one that the plan lists for this check on ``platform``."""
        if self.platforms and platform not in self.platforms:
            return reason == self.inapplicable(platform, ())
        return reason in {lacks(need, platform) for need in self.needs} or any(
            fnmatchcase(reason, pattern) for pattern in self.skips
        )


def lacks(need: str, platform: str) -> str:
    """The reason for which a check that needs something is skipped."""
    return f"needs {need}, which this image on {platform} does not have"


class SuitePlan(Struct, frozen=True, kw_only=True):
    """Everything a suite checks. ``digest`` (of the suite's files) is what it was worked out from; ``prefix`` is what its
    checks' names begin with; ``defaults`` are its settings' defaults."""

    schema: str = PLAN_SCHEMA
    suite: str
    prefix: str
    digest: str
    version: str = "0"
    defaults: dict[str, Any] = {}
    checks: tuple[PlannedCheck, ...] = ()

    @property
    def plan_digest(self) -> str:
        """Digest of what is planned, in a canonical form."""
        return digest_of_data([self.suite, self.prefix, sorted(self.checks, key=lambda check: check.template)])


def digest_of_data(data: Any) -> str:
    """``sha256:<hex>`` of plain data in a canonical form: keys sorted, no white space."""
    return "sha256:" + hashlib.sha256(msgspec.json.encode(data, order="sorted")).hexdigest()
