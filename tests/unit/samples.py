"""Finished runs for tests, with the plans they are judged by and the locks that pin those."""

from __future__ import annotations

from typing import Any

import msgspec

from certify.config import Config
from certify.evidence.certificate import Certificate, Place, statement
from certify.evidence.plan import TARGET, PlannedCheck, SuitePlan
from certify.evidence.run import Check, Planned, Run, Suite, Target
from certify.gate.lock import Extras, Lock, make_lock
from certify.nodes.owner import this_process

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
LOG = "e" * 32


def check(
    name: str, outcome: str = "passed", *, target: str = "app:1-container", suite: str = "baseline", **more: object
) -> Check:
    return Check(
        id=f"certify_suites.{suite}.test_x::{name}[{target}]",
        name=f"certify_suites.{suite}.test_x::{name}",
        target=target,
        outcome=outcome,
        suite=suite,
        **more,
    )  # type: ignore[arg-type]


def plan_of(*names: str, suite: str = "baseline", skips: tuple[str, ...] = ("why",)) -> SuitePlan:
    checks = tuple(
        PlannedCheck(template=f"certify_suites.{suite}.test_x::{name}[{TARGET}]", skips=skips) for name in names
    )
    return SuitePlan(suite=suite, prefix=f"certify_suites.{suite}", digest=OTHER, version="1.0", checks=checks)


def plans_for(*checks: Check) -> tuple[SuitePlan, ...]:
    """Plans with exactly these checks."""
    names: dict[str, list[str]] = {}
    for found in checks:
        names.setdefault(found.suite, []).append(found.name.partition("::")[2])
    return tuple(plan_of(*dict.fromkeys(mine), suite=suite) for suite, mine in names.items())


TWO = (check("test_a"), check("test_b"))


def finished(
    *checks: Check,
    digest: str = DIGEST,
    at: str = "2026-11-20T10:00:00.000000Z",
    product: str = "app",
    plans: tuple[SuitePlan, ...] = (),
    platform: str = "container",
    **more: Any,
) -> Run:
    """A run that has these outcomes (two that pass, where none are given) under ``plans`` (theirs, where none are given)."""
    kept = checks or TWO
    plans = plans or plans_for(*kept)
    target = Target(
        id="app:1-container",
        digest=digest,
        config_digest=digest,
        reference="docker-daemon:app:1",
        platform=platform,
        driver="docker",
    )
    run = Run(
        **{
            "id": "20261120t100000-abc123",
            "status": "finished",
            "owner": this_process(),
            "product": product,
            "started": at,
            "finished": at,
            "config_digest": OTHER,
            "suites": tuple(
                Suite(name=plan.suite, version=plan.version, digest=plan.digest, plan=plan.plan_digest)
                for plan in plans
            ),
            "targets": (target,),
            "selected": bool(more.get("deselected")),
            **{key: value for key, value in more.items() if key != "verdicts"},
        }
    )
    planned = Planned(plans, run.targets)
    run = planned.conclude(msgspec.structs.replace(run, planned=planned.planned), kept)
    return msgspec.structs.replace(run, verdicts=more["verdicts"]) if "verdicts" in more else run


def statement_of(run: Run, number: int = 1, previous: str = "") -> dict[str, Any]:
    return statement(run, run.targets[0], OTHER, Place(LOG, number, previous))


def certificate_of(run: Run, number: int = 1) -> Certificate:
    return Certificate(f"sha256:{number}", statement_of(run, number, f"sha256:{number - 1}" if number > 1 else ""))


def lock_of(*plans: SuitePlan) -> Lock:
    """A lock of plans without settings (of the two checks of the default run, where none are given)."""
    plans = plans or plans_for(*TWO)
    made = make_lock(Config(), plans, {plan.suite: {} for plan in plans}, Extras())
    return msgspec.structs.replace(made, platforms={})
