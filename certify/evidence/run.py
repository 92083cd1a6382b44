"""A run: candidates × platforms × suites, executed once. The document of ``run.json`` and the verdict.

Version 2 of the schema: a run names the plan it is judged by. Version 1 had none, so it can be read but never signed.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import Struct

from certify.evidence.plan import SuitePlan
from certify.nodes.owner import is_alive

RUN_SCHEMA = "certify.run/v2"

PASSED, FAILED, SKIPPED, NO_VERDICT, FLAKY = "passed", "failed", "skipped", "no-verdict", "passed-on-rerun"
DESELECTED = "deselected"
OUTCOMES = (PASSED, FAILED, SKIPPED, NO_VERDICT, FLAKY, DESELECTED)
NOT_RUN = "planned, but it was never run"
LEFT_OUT = "left out by the command line"
#: The suite that certify's own checks (of a boot) belong to.
OWN_SUITE = "certify"


class Check(Struct, frozen=True, kw_only=True):
    """One check on one target. ``name`` is its id without the target, ``duration`` in seconds; ``reason`` says why it was
    skipped, failed or has no verdict."""

    id: str
    target: str
    outcome: str
    name: str = ""
    suite: str = ""
    reason: str = ""
    duration: float = 0.0
    controls: tuple[str, ...] = ()
    node: str = ""
    transcript: str = ""


class Suite(Struct, frozen=True, kw_only=True):
    """A suite as it was used: ``digest`` covers every file in it, ``plan`` is its plan's digest, ``settings`` what was in
    force."""

    name: str
    version: str
    digest: str
    plan: str = ""
    settings: dict[str, Any] = {}


class Part(Struct, frozen=True, kw_only=True, order=True):
    """Code or configuration that took part in a run and belongs to no suite: a conftest file, the ini file, a plugin.

    ``kind`` is conftest, ini, module or plugin; ``digest`` of its file, where there is one; ``version`` of its package.
    """

    kind: str
    name: str
    digest: str = ""
    version: str = ""


class Target(Struct, frozen=True, kw_only=True):
    """A candidate on a platform. ``settings`` are those of the platform that decide what is checked."""

    id: str
    digest: str
    reference: str
    platform: str
    driver: str
    config_digest: str = ""
    boot: str = "none"
    details: dict[str, Any] = {}
    settings: dict[str, Any] = {}


class Run(Struct, frozen=True, kw_only=True):
    """run.json, version 2. Times in RFC 3339, UTC; ``phases`` in seconds. ``selected``: the command line chose checks.
    Ids: ``deselected`` ones were not chosen; ``twice`` ones were collected twice or not from their suite; ``unlisted`` ones
    are planned by no suite, or were skipped for a reason that their plan does not list."""

    schema: str = RUN_SCHEMA
    id: str
    status: str
    owner: str
    product: str
    started: str
    finished: str = ""
    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    config_digest: str = ""
    suites: tuple[Suite, ...] = ()
    code: tuple[Part, ...] = ()
    candidates: tuple[dict[str, Any], ...] = ()
    targets: tuple[Target, ...] = ()
    planned: tuple[tuple[str, str], ...] = ()
    selected: bool = False
    deselected: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    verdicts: dict[str, str] = {}
    phases: dict[str, float] = {}

    @property
    def state(self) -> str:
        """``finished``, ``running``, or ``interrupted`` when the process that ran it is gone."""
        if self.status == "finished":
            return "finished"
        return "running" if is_alive(self.owner) else "interrupted"


def new_run_id(now: datetime | None = None) -> str:
    """Sortable by time, unique: ``20261120t063000-5f2a9c``. Good as part of a container's name."""
    return f"{(now or datetime.now(UTC)):%Y%m%dt%H%M%S}-{secrets.token_hex(3)}"


def timestamp() -> str:
    """Now, in RFC 3339 with microseconds: two runs are never of one time."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def complete(planned: Iterable[tuple[str, str]], checks: Iterable[Check], left_out: Iterable[str] = ()) -> list[Check]:
    """The checks, plus an outcome for every planned one that has none: deselected where the command line left it out,
    else *no verdict*. Nothing planned goes missing."""
    done = {check.id: check for check in checks}
    chosen = set(left_out)
    missing = (
        Check(id=check, target=target, outcome=DESELECTED, reason=LEFT_OUT)
        if check in chosen
        else Check(id=check, target=target, outcome=NO_VERDICT, reason=NOT_RUN)
        for check, target in planned
        if check not in done
    )
    return [*done.values(), *missing]


class Planned:
    """What a run's plans ask for, target by target: names every outcome and gives the verdicts.

    Pure. The rules: an outcome counts under the suite and name that the *plan* gives its id, whatever the run says; a
    planned check without an outcome is *no verdict*; a check that nobody planned, one collected twice, and a skip for a
    reason that the plan does not list keep a target from passing.
    """

    def __init__(self, plans: Iterable[SuitePlan], targets: Iterable[Target]) -> None:
        self._platforms = {target.id: target.platform for target in targets}
        self._planned = {
            check.id_on(target): (plan.suite, check, target)
            for plan in plans
            for check in plan.checks
            for target in self._platforms
        }

    @property
    def planned(self) -> tuple[tuple[str, str], ...]:
        """Every check that must have an outcome, with its target."""
        return tuple((check_id, target) for check_id, (_, _, target) in self._planned.items())

    def named(self, check: Check) -> Check:
        """The outcome under the suite and name its plan gives it; of a check nobody planned, under none."""
        if _is_own(check):
            return msgspec.structs.replace(check, name=check.id.partition("[")[0])
        suite, planned, target = self._planned.get(check.id, ("", None, check.target))
        name = planned.name if planned else ""
        return msgspec.structs.replace(check, suite=suite, name=name, target=target)

    def conclude(self, run: Run, checks: Iterable[Check]) -> Run:
        """The run with all outcomes and each target's verdict."""
        left_out = run.deselected if run.selected else ()
        found = tuple(self.named(check) for check in complete(self.planned, checks, left_out))
        unlisted = tuple(check.id for check in found if not self._listed(check))
        holes = {*run.twice, *unlisted, *run.deselected}
        verdicts = {
            target: self._verdict([c for c in found if c.target == target], holes) for target in self._platforms
        }
        return msgspec.structs.replace(run, checks=found, unlisted=unlisted, verdicts=verdicts)

    def _verdict(self, checks: list[Check], holes: set[str]) -> str:
        given = verdict(checks)
        if given not in ("PASSED", "WARNED"):
            return given
        return "INCOMPLETE" if any(check.id in holes for check in checks) or not self._planned else given

    def _listed(self, check: Check) -> bool:
        """Whether the plan knows the check and, if it was skipped, the reason."""
        if _is_own(check):
            return True
        _, planned, target = self._planned.get(check.id, ("", None, ""))
        if planned is None:
            return False
        return check.outcome != SKIPPED or planned.may_be_skipped(self._platforms[target], check.reason)


#: Certify's own checks: that an image whose nodes were forked boots from the beginning too, and that a run went as planned.
BOOTS_COLD, RUN_IS_SOUND = "boots_cold", "run_is_sound"


def own_check(name: str, target: str) -> str:
    """The id of one of certify's own checks on a target."""
    return f"{OWN_SUITE}::{name}[{target}]"


def _is_own(check: Check) -> bool:
    return check.suite == OWN_SUITE and check.id in {own_check(n, check.target) for n in (BOOTS_COLD, RUN_IS_SOUND)}


def verdict(checks: Iterable[Check]) -> str:
    """PASSED, WARNED (something passed only on a rerun), FAILED, or NO_VERDICT (also when nothing passed)."""
    count = Counter(check.outcome for check in checks)
    if count[FAILED]:
        return "FAILED"
    if count[NO_VERDICT] or not count[PASSED] + count[FLAKY]:
        return "NO_VERDICT"
    return "WARNED" if count[FLAKY] else "PASSED"
