"""The certificate's statement: the in-toto test-result predicate, and fields that only add."""

from __future__ import annotations

import pytest

from certify.errors import EvidenceError
from certify.evidence.certificate import Certificate, statement
from tests.unit.samples import DIGEST, OTHER, check, finished


def test_the_statement_has_the_predicates_form() -> None:
    run = finished(
        check("test_a"),
        check("test_b", "failed"),
        check("test_c", "skipped", reason="why"),
        check("test_d", "passed-on-rerun"),
    )
    made = statement(run, run.targets[0], OTHER)
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert made["subject"] == [{"name": "docker-daemon:app:1", "digest": {"sha256": "a" * 64}}]
    predicate = made["predicate"]
    assert predicate["result"] == "FAILED"
    assert [len(predicate[key]) for key in ("passedTests", "failedTests", "warnedTests", "skippedTests")] == [
        1,
        1,
        1,
        1,
    ]
    assert predicate["configuration"][0]["name"] == "baseline"
    assert {c["annotations"]["kind"] for c in predicate["configuration"]} == {"suite", "policy", "environment"}
    assert all(set(c["digest"]) == {"sha256"} for c in predicate["configuration"])
    assert predicate["evidence"]["digest"]["sha256"] == OTHER.removeprefix("sha256:")


def test_what_is_written_is_read() -> None:
    run = finished(
        check("test_a"), deselected=("certify_suites.baseline.test_x::test_z[app:1-container]", "x::y[other]")
    )
    read = Certificate("sha256:1", statement(run, run.targets[0], OTHER))
    assert read.subjects == {DIGEST}
    assert (read.result, read.product, read.platform) == ("PASSED", "app", "container")
    assert read.suites == {"baseline": OTHER}
    assert len(read.deselected) == 1


@pytest.mark.parametrize(
    "more", [{"status": "running"}, {"verdicts": {}}, {"verdicts": {"app:1-container": "NO_VERDICT"}}]
)
def test_without_a_verdict_there_is_no_certificate(more: dict[str, object]) -> None:
    run = finished(**more)
    with pytest.raises(EvidenceError, match="nothing to certify"):
        statement(run, run.targets[0], OTHER)


@pytest.mark.parametrize("document", [{}, {"_type": "x", "predicateType": "y"}, {"_type": [], "predicateType": None}])
def test_another_statement_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(EvidenceError, match="no sound test result"):
        Certificate("sha256:1", document)
