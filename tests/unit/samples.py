"""Finished runs for tests."""

from __future__ import annotations

from certify.evidence.run import Check, Run, Suite, Target, verdict
from certify.nodes.owner import this_process

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def check(
    name: str, outcome: str = "passed", *, target: str = "app:1-container", suite: str = "baseline", **more: object
) -> Check:
    return Check(
        id=f"certify_suites.{suite}.test_x::{name}[{target}]", target=target, outcome=outcome, suite=suite, **more
    )  # type: ignore[arg-type]


def finished(
    *checks: Check, digest: str = DIGEST, at: str = "2026-11-20T10:00:00Z", product: str = "app", **more: object
) -> Run:
    target = Target(
        id="app:1-container", digest=digest, reference="docker-daemon:app:1", platform="container", driver="docker"
    )
    kept = checks or (check("test_a"), check("test_b"))
    run = {
        "id": "20261120t100000-abc123",
        "status": "finished",
        "owner": this_process(),
        "product": product,
        "started": at,
        "finished": at,
        "config_digest": OTHER,
        "suites": (Suite(name="baseline", version="1.0", digest=OTHER),),
        "targets": (target,),
        "planned": tuple((c.id, c.target) for c in kept),
        "checks": kept,
        "verdicts": {target.id: verdict(kept)},
        **more,
    }
    return Run(**run)  # type: ignore[arg-type]
