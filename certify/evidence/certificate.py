"""A certificate: the in-toto statement that says which digest passed which checks where.

Statement v1 (in-toto attestation framework, spec/v1/statement.md) with predicate test-result v0.1. What that predicate
lacks goes into further fields that only add. Building is pure; :mod:`certify.trust.dsse` signs.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import msgspec

from certify.errors import EvidenceError
from certify.evidence.run import FAILED, FLAKY, PASSED, SKIPPED, Run, Target
from certify.images.candidate import hex_of

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"


def statement(run: Run, target: Target, manifest_digest: str) -> dict[str, Any]:
    """The test-result statement of one target of a finished run, passed or failed.

    Raises EvidenceError when there is no verdict to state.
    """
    result = run.verdicts.get(target.id, "NO_VERDICT")
    if run.status != "finished" or result == "NO_VERDICT":
        raise EvidenceError(f"run {run.id}: {target.id} has no verdict, so there is nothing to certify", "run it again")
    checks = [check for check in run.checks if check.target == target.id]

    def names(outcome: str) -> list[str]:
        return sorted(check.id for check in checks if check.outcome == outcome)

    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": target.reference, "digest": {"sha256": hex_of(target.digest)}}],
        "predicateType": TEST_RESULT,
        "predicate": {
            "result": result,
            "configuration": _configuration(run),
            "passedTests": names(PASSED),
            "warnedTests": names(FLAKY),
            "failedTests": names(FAILED),
            "skippedTests": [{"name": c.id, "reason": c.reason} for c in checks if c.outcome == SKIPPED],
            "collectedTests": sorted(check.id for check in checks),
            "deselectedTests": sorted(check for check in run.deselected if check.endswith(f"{target.id}]")),
            "product": run.product,
            "platform": target.platform,
            "driver": target.driver,
            "boot": target.boot,
            "node": target.details,
            "environment": run.environment,
            "run": run.id,
            "startedOn": run.started,
            "finishedOn": run.finished,
            "evidence": {"name": "manifest.json", "digest": {"sha256": hex_of(manifest_digest)}},
        },
    }


def _configuration(run: Run) -> list[dict[str, Any]]:
    """Resource descriptors (spec/v1/resource_descriptor.md): the suites, then policy and environment."""
    suites = [
        {"name": s.name, "digest": {"sha256": hex_of(s.digest)}, "annotations": {"kind": "suite", "version": s.version}}
        for s in run.suites
    ]
    policy = {
        "name": "certify.yaml",
        "digest": {"sha256": hex_of(run.config_digest)},
        "annotations": {"kind": "policy"},
    }
    encoded = msgspec.json.encode(run.environment, order="sorted")
    environment = {
        "name": "environment",
        "digest": {"sha256": hashlib.sha256(encoded).hexdigest()},
        "annotations": {"kind": "environment"},
    }
    return [*suites, policy, environment]


class Certificate:
    """A verified certificate, read for the gate. ``digest`` is the envelope's sha256: how others refer to it.

    Raises EvidenceError for a statement that is not a sound test result.
    """

    def __init__(self, digest: str, document: dict[str, Any]) -> None:
        try:
            if document["_type"] != STATEMENT_TYPE or document["predicateType"] != TEST_RESULT:
                raise ValueError(f"predicate {document['predicateType']!r}")
            predicate = document["predicate"]
            self.digest = digest
            self.subjects = frozenset("sha256:" + subject["digest"]["sha256"] for subject in document["subject"])
            self.result = str(predicate["result"])
            self.product, self.platform = str(predicate["product"]), str(predicate["platform"])
            self.finished = datetime.fromisoformat(predicate["finishedOn"])
            self.suites = {
                item["name"]: "sha256:" + item["digest"]["sha256"]
                for item in predicate["configuration"]
                if item.get("annotations", {}).get("kind") == "suite"
            }
            self.passed = frozenset(predicate["passedTests"])
            self.warned = frozenset(predicate["warnedTests"])
            self.failed = frozenset(predicate["failedTests"])
            self.collected = frozenset(predicate["collectedTests"])
            self.deselected = frozenset(predicate["deselectedTests"])
            self.run = str(predicate["run"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EvidenceError(f"certificate {digest}: no sound test result ({error!r})", "make it again") from None
