"""A run: candidates × platforms × suites, executed once. The document of ``run.json`` and the verdict.

Version 1 of the schema is ``RUN_SCHEMA``; readers keep reading it when a version 2 comes.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from certify.nodes.owner import is_alive

RUN_SCHEMA = "certify.run/v1"

PASSED, FAILED, SKIPPED, NO_VERDICT, FLAKY = "passed", "failed", "skipped", "no-verdict", "passed-on-rerun"
OUTCOMES = (PASSED, FAILED, SKIPPED, NO_VERDICT, FLAKY)
NOT_RUN = "not run: the run ended before it"


class Check(Struct, frozen=True, kw_only=True):
    """One check on one target. ``duration`` in seconds; ``reason`` says why it was skipped, failed or has no verdict."""

    id: str
    target: str
    outcome: str
    suite: str = ""
    reason: str = ""
    duration: float = 0.0
    controls: tuple[str, ...] = ()
    node: str = ""
    transcript: str = ""


class Suite(Struct, frozen=True, kw_only=True):
    """A suite as it was used: the digest covers every file in it."""

    name: str
    version: str
    digest: str


class Target(Struct, frozen=True, kw_only=True):
    """A candidate on a platform."""

    id: str
    digest: str
    reference: str
    platform: str
    driver: str
    boot: str = "cold"
    details: dict[str, Any] = {}


class Run(Struct, frozen=True, kw_only=True):
    """run.json, version 1. Times in RFC 3339, UTC; ``phases`` in seconds."""

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
    candidates: tuple[dict[str, Any], ...] = ()
    targets: tuple[Target, ...] = ()
    planned: tuple[tuple[str, str], ...] = ()
    deselected: tuple[str, ...] = ()
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
    """Now, in RFC 3339 with seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def complete(planned: Iterable[tuple[str, str]], checks: Iterable[Check]) -> tuple[Check, ...]:
    """The checks, plus a *no verdict* for every planned one that has none: nothing planned goes missing."""
    done = {check.id: check for check in checks}
    missing = (
        Check(id=check, target=target, outcome=NO_VERDICT, reason=NOT_RUN, suite=suite_of(check))
        for check, target in planned
        if check not in done
    )
    return (*done.values(), *missing)


def suite_of(check_id: str) -> str:
    """``hygiene`` for ``certify_suites.hygiene.test_identity::test_x[…]``: the package that holds the module."""
    parts = check_id.split("::", maxsplit=1)[0].split(".")
    return parts[-2] if len(parts) > 1 else parts[0]


def verdict(checks: Iterable[Check]) -> str:
    """PASSED, WARNED (something passed only on a rerun), FAILED, or NO_VERDICT (also when nothing passed)."""
    count = Counter(check.outcome for check in checks)
    if count[FAILED]:
        return "FAILED"
    if count[NO_VERDICT] or not count[PASSED] + count[FLAKY]:
        return "NO_VERDICT"
    return "WARNED" if count[FLAKY] else "PASSED"
