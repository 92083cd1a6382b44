"""The certificate's statement: the in-toto test-result predicate, and fields that only add."""

from __future__ import annotations

import pytest

from certify.errors import EvidenceError
from certify.evidence.certificate import Certificate
from tests.unit.samples import DIGEST, OTHER, certificate_of, check, finished, plan_of, statement_of


def test_the_statement_has_the_predicates_form() -> None:
    run = finished(
        check("test_a"),
        check("test_b", "failed"),
        check("test_c", "skipped", reason="why"),
        check("test_d", "passed-on-rerun"),
    )
    made = statement_of(run)
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
    left_out = (check("test_z").id,)
    read = certificate_of(finished(check("test_a"), plans=(plan_of("test_a", "test_z"),), deselected=left_out))
    assert read.subject == DIGEST
    assert (read.result, read.verdict, read.product, read.platform) == ("FAILED", "INCOMPLETE", "app", "container")
    assert {name: used.digest for name, used in read.suites.items()} == {"baseline": OTHER}
    assert read.deselected == {check("test_z").name}
    assert read.suites["baseline"].checks == {check("test_a").name, check("test_z").name}


@pytest.mark.parametrize(
    "change",
    [
        {"result": "PASSED", "failedTests": ["certify_suites.baseline.test_x::test_b"]},
        {"passedTests": ["certify_suites.baseline.test_x::test_a"] * 2},
        {"passedTests": []},
        {"suiteTests": {}},
        {"suiteTests": {"baseline": ["certify_suites.baseline.test_x::test_a"]}},
        {"unplannedTests": ["certify_suites.baseline.test_x::test_a"]},
        {"skippedTests": [{"name": "certify_suites.baseline.test_x::test_a", "reason": "x"}]},
        {"deselectedTests": ["certify_suites.baseline.test_x::test_z"]},
        {"log": {"id": "x", "number": 0, "previous": ""}},
        {"finishedOn": "yesterday"},
    ],
)
def test_lists_that_contradict_each_other_are_no_certificate(change: dict[str, object]) -> None:
    made = statement_of(finished())
    made["predicate"] |= change
    with pytest.raises(EvidenceError, match="no sound test result"):
        Certificate("sha256:1", made)


def test_one_subject_only() -> None:
    made = statement_of(finished())
    made["subject"].append({"name": "other", "digest": {"sha256": "b" * 64}})
    with pytest.raises(EvidenceError, match="no sound test result"):
        Certificate("sha256:1", made)


@pytest.mark.parametrize(
    "more", [{"status": "running"}, {"verdicts": {}}, {"verdicts": {"app:1-container": "NO_VERDICT"}}]
)
def test_without_a_verdict_there_is_no_certificate(more: dict[str, object]) -> None:
    run = finished(**more)
    with pytest.raises(EvidenceError, match="nothing to certify"):
        statement_of(run)


@pytest.mark.parametrize("document", [{}, {"_type": "x", "predicateType": "y"}, {"_type": [], "predicateType": None}])
def test_another_statement_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(EvidenceError, match="no sound test result"):
        Certificate("sha256:1", document)
