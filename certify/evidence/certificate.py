"""A certificate: the in-toto statement that says which digest passed which checks where.

Statement v1 (in-toto attestation framework, spec/v1/statement.md) with predicate test-result v0.1. What that predicate
lacks goes into further fields that only add. Building is pure; :mod:`certify.trust.dsse` signs.

Checks are named as their suite's plan names them, without the target: a certificate is about one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from certify.errors import EvidenceError
from certify.evidence.run import (
    DESELECTED,
    FAILED,
    FLAKY,
    NO_VERDICT,
    OWN_SUITE,
    PASSED,
    SKIPPED,
    Check,
    Part,
    Run,
    Target,
)
from certify.images.candidate import hex_of

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
#: A run's verdict → the predicate's result. Who reads the result alone must never read a yes that was not earned.
_RESULTS = {"PASSED": "PASSED", "WARNED": "WARNED", "FAILED": "FAILED", "INCOMPLETE": "FAILED"}


@dataclass(frozen=True)
class Place:
    """Where a certificate stands in its signer's log of one digest: its number, counted from 1, and the one before."""

    log: str
    number: int
    previous: str


def statement(run: Run, target: Target, manifest_digest: str, place: Place) -> dict[str, Any]:
    """The test-result statement of one target of a finished run, passed or failed.

    Raises EvidenceError when there is no verdict to state.
    """
    verdict = run.verdicts.get(target.id, "NO_VERDICT")
    if run.status != "finished" or verdict not in _RESULTS:
        raise EvidenceError(f"run {run.id}: {target.id} has no verdict, so there is nothing to certify", "run it again")
    checks = [check for check in run.checks if check.target == target.id]

    def names(outcome: str) -> list[str]:
        return sorted(check.name or check.id for check in checks if check.outcome == outcome)

    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": target.reference, "digest": {"sha256": hex_of(target.digest)}}],
        "predicateType": TEST_RESULT,
        "predicate": {
            "result": _RESULTS[verdict],
            "configuration": _configuration(run),
            "passedTests": names(PASSED),
            "warnedTests": names(FLAKY),
            "failedTests": names(FAILED),
            "skippedTests": [{"name": c.name or c.id, "reason": c.reason} for c in checks if c.outcome == SKIPPED],
            "withoutVerdict": names(NO_VERDICT),
            "deselectedTests": names(DESELECTED),
            "unplannedTests": sorted(check.id for check in checks if not check.name),
            "doubtfulTests": sorted(check.name or check.id for check in checks if check.id in run.twice),
            "suiteTests": _by_suite(checks),
            "verdict": verdict,
            "product": run.product,
            "platform": target.platform,
            "platformSettings": target.settings,
            "configDigest": target.config_digest or target.digest,
            "driver": target.driver,
            "boot": target.boot,
            "node": target.details,
            "tookPart": [msgspec.to_builtins(part) for part in run.code],
            "environment": run.environment,
            "run": run.id,
            "log": {"id": place.log, "number": place.number, "previous": place.previous},
            "startedOn": run.started,
            "finishedOn": run.finished,
            "evidence": {"name": "manifest.json", "digest": {"sha256": hex_of(manifest_digest)}},
        },
    }


def _by_suite(checks: list[Check]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for check in checks:
        if check.name:
            found.setdefault(check.suite, []).append(check.name)
    return {suite: sorted(names) for suite, names in sorted(found.items())}


def _configuration(run: Run) -> list[dict[str, Any]]:
    """Resource descriptors (spec/v1/resource_descriptor.md): the suites, then policy and environment."""
    suites = [
        {
            "name": s.name,
            "digest": {"sha256": hex_of(s.digest)},
            "annotations": {"kind": "suite", "version": s.version, "plan": s.plan, "settings": s.settings},
        }
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


@dataclass(frozen=True)
class SuiteUsed:
    """A suite as a certificate names it, and the names of its checks that have an outcome."""

    digest: str
    plan: str
    version: str
    settings: dict[str, Any]
    checks: frozenset[str]


class Certificate:
    """A verified certificate, read for the gate. ``digest`` is the envelope's sha256: how others refer to it.

    Raises EvidenceError for a statement that is not a sound test result, or whose own lists contradict each other.
    """

    def __init__(self, digest: str, document: dict[str, Any]) -> None:
        self.digest = digest
        try:
            if document["_type"] != STATEMENT_TYPE or document["predicateType"] != TEST_RESULT:
                raise ValueError(f"predicate {document['predicateType']!r}")
            [subject] = document["subject"]
            self.subject = "sha256:" + str(subject["digest"]["sha256"])
            self._read(document["predicate"])
            self._require_consistent()
        except (KeyError, TypeError, ValueError, AttributeError, msgspec.ValidationError) as error:
            raise EvidenceError(f"certificate {digest}: no sound test result ({error!r})", "make it again") from None

    def _read(self, predicate: dict[str, Any]) -> None:
        self.result, self.verdict = str(predicate["result"]), str(predicate["verdict"])
        self.product, self.platform = str(predicate["product"]), str(predicate["platform"])
        self.finished = datetime.fromisoformat(predicate["finishedOn"]).astimezone(UTC)
        self.config_digest = str(predicate["configDigest"])
        self.platform_settings = dict(predicate["platformSettings"])
        self.passed = _names(predicate["passedTests"])
        self.warned = _names(predicate["warnedTests"])
        self.failed = _names(predicate["failedTests"])
        self.unknown = _names(predicate["withoutVerdict"])
        self.skipped = {str(item["name"]): str(item["reason"]) for item in predicate["skippedTests"]}
        self.deselected = _names(predicate["deselectedTests"])
        self.unplanned, self.doubtful = _names(predicate["unplannedTests"]), _names(predicate["doubtfulTests"])
        self.code = tuple(msgspec.convert(item, Part) for item in predicate["tookPart"])
        tests: dict[str, list[str]] = predicate["suiteTests"]
        self.suites = {
            str(item["name"]): SuiteUsed(
                "sha256:" + str(item["digest"]["sha256"]),
                str(item["annotations"]["plan"]),
                str(item["annotations"]["version"]),
                dict(item["annotations"]["settings"]),
                frozenset(tests.get(item["name"], ())),
            )
            for item in predicate["configuration"]
            if item.get("annotations", {}).get("kind") == "suite"
        }
        self.own = _names(tests.get(OWN_SUITE, []))
        self.run = str(predicate["run"])
        log = predicate["log"]
        self.place = Place(str(log["id"]), int(log["number"]), str(log["previous"]))

    def _require_consistent(self) -> None:
        """Every check has one outcome, every outcome one check, and the result is what the outcomes make it."""
        lists = (self.passed, self.warned, self.failed, self.unknown, self.deselected, frozenset(self.skipped))
        outcomes = frozenset().union(*lists)
        if sum(map(len, lists)) != len(outcomes):
            raise ValueError("a check has two outcomes")
        used = [suite.checks for suite in self.suites.values()] + [self.own]
        of_suites: frozenset[str] = frozenset().union(*used)
        if (
            sum(map(len, used)) != len(of_suites)
            or of_suites & self.unplanned
            or of_suites | self.unplanned != outcomes
        ):
            raise ValueError("its outcomes are not those of its suites")
        bad = self.failed or self.unknown or self.deselected or self.unplanned or self.doubtful
        sound = {"PASSED": not (bad or self.warned) and bool(self.passed), "WARNED": not bad and bool(self.warned)}
        if not sound.get(self.result, self.result == "FAILED") or self.place.number < 1:
            raise ValueError(f"its result is {self.result}, its outcomes are others")


def _names(values: list[str]) -> frozenset[str]:
    found = frozenset(map(str, values))
    if len(found) != len(values):
        raise ValueError("a check is listed twice")
    return found
