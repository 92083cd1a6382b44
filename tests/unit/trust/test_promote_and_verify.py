"""From a signed run to a channel and back: what is promoted verifies, and nothing else does."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from certify.config import Config
from certify.errors import EvidenceError, KeyUnusable, NotVerified, Refused, TrustError
from certify.evidence.bundle import Bundle
from certify.evidence.run import Run
from certify.images.candidate import Candidate
from certify.trust.bless import bless, seal
from certify.trust.keys import KeyStore
from certify.trust.verify import Verifier
from tests.unit.samples import OTHER, check, finished
from tests.unit.trust.project import Project, judge, now_text, promote


def test_what_is_promoted_verifies(signed: Project) -> None:
    pointer = promote(signed.candidate, "staging", signed.config)
    verified = Verifier(signed.config).candidate(signed.candidate, "staging")
    assert verified.pointer == pointer
    assert pointer.serial == 1
    assert [c.result for c in verified.certificates] == ["PASSED"]


def test_the_decision_is_a_signed_verification_summary(signed: Project) -> None:
    from certify.trust.dsse import verify

    pointer = promote(signed.candidate, "staging", signed.config)
    file = Path(signed.config.trust.repository) / "certificates" / f"{pointer.decision.removeprefix('sha256:')}.json"
    summary = verify(file.read_bytes(), [KeyStore(Path(signed.config.trust.keys)).public("gate")], "summary")
    assert summary["predicateType"] == "https://slsa.dev/verification_summary/v1"
    predicate = summary["predicate"]
    assert predicate["verificationResult"] == "PASSED"
    assert predicate["verifiedLevels"] == ["CERTIFY_STAGING"]
    assert [i["digest"]["sha256"] for i in predicate["inputAttestations"]] == [
        pointer.certificates[0].removeprefix("sha256:")
    ]
    assert set(predicate) >= {"verifier", "timeVerified", "resourceUri", "policy", "slsaVersion"}


def test_serials_grow_and_the_previous_is_kept(signed: Project) -> None:
    promote(signed.candidate, "staging", signed.config)
    signed.sign(finished(digest=OTHER, at=now_text()))
    second = replace(signed.candidate, digest=OTHER, config_digest=OTHER)
    pointer = promote(second, "staging", signed.config)
    assert (pointer.serial, pointer.previous) == (2, signed.candidate.digest)
    again = promote(second, "staging", signed.config)
    assert (again.serial, again.previous) == (3, signed.candidate.digest)
    with pytest.raises(NotVerified, match="but staging holds"):
        Verifier(signed.config).candidate(signed.candidate, "staging")


def test_without_a_certificate_it_is_refused(project: Project) -> None:
    with pytest.raises(Refused, match="no valid certificate"):
        promote(project.candidate, "staging", project.config)
    with pytest.raises(NotVerified, match="nothing stands on staging"):
        Verifier(project.config).candidate(project.candidate, "staging")


def test_a_failed_run_is_refused_with_its_checks(project: Project) -> None:
    project.sign(finished(check("test_a"), check("test_b", "failed"), at=now_text()))
    with pytest.raises(Refused, match="1 checks failed on container: test_b") as caught:
        promote(project.candidate, "staging", project.config)
    assert caught.value.exit_code == 1


def test_production_comes_after_staging(signed: Project) -> None:
    with pytest.raises(Refused, match="does not stand on staging"):
        promote(signed.candidate, "production", signed.config)
    promote(signed.candidate, "staging", signed.config)
    assert promote(signed.candidate, "production", signed.config).serial == 1


def test_a_certificate_signed_by_another_key_does_not_count(signed: Project, tmp_path: Path) -> None:
    for name in ("runner.pem", "runner.pub.json"):
        (tmp_path / "keys" / name).unlink()
    KeyStore(tmp_path / "keys").create()
    assert judge(signed.candidate, "staging", signed.config).decision.allow  # what the trusted key signed still counts
    signed.sign(finished(digest=OTHER, at=now_text()))
    judged = judge(replace(signed.candidate, digest=OTHER, config_digest=OTHER), "staging", signed.config)
    assert not judged.decision.allow
    assert "signed by 0 of the 1 trusted keys" in judged.unusable[0]


def test_a_tampered_certificate_does_not_count(signed: Project, tmp_path: Path) -> None:
    file = next((tmp_path / "certs").rglob("*.json"))
    document = json.loads(file.read_text())
    document["payload"] = document["payload"][:-8] + "AAAA" + document["payload"][-4:]
    file.write_text(json.dumps(document))
    assert not judge(signed.candidate, "staging", signed.config).decision.allow


def test_a_published_certificate_that_was_changed_is_noticed(signed: Project, tmp_path: Path) -> None:
    pointer = promote(signed.candidate, "staging", signed.config)
    file = tmp_path / "trust" / "certificates" / f"{pointer.certificates[0].removeprefix('sha256:')}.json"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(NotVerified, match="its bytes were changed"):
        Verifier(signed.config).candidate(signed.candidate, "staging")
    file.unlink()
    with pytest.raises(NotVerified, match="No such file"):
        Verifier(signed.config).candidate(signed.candidate, "staging")


def test_a_changed_pointer_is_noticed(signed: Project, tmp_path: Path) -> None:
    promote(signed.candidate, "staging", signed.config)
    file = next((tmp_path / "trust" / "targets" / "staging").rglob("*.json"))
    file.write_bytes(file.read_bytes().replace(b'"serial": 1', b'"serial": 9'))
    with pytest.raises(NotVerified):
        Verifier(signed.config).candidate(signed.candidate, "staging")


def test_a_key_that_was_not_delegated_to_signs_nothing(signed: Project, tmp_path: Path) -> None:
    promote(signed.candidate, "staging", signed.config)
    keys = tmp_path / "keys"
    for suffix in ("pem", "pub.json"):
        shutil.copy(keys / f"runner.{suffix}", keys / f"approver-1.{suffix}")
    with pytest.raises(KeyUnusable, match="not the one that"):
        promote(signed.candidate, "staging", signed.config)
    assert Verifier(signed.config).candidate(signed.candidate, "staging").pointer.serial == 1


def test_an_older_state_of_the_repository_is_refused(signed: Project, tmp_path: Path) -> None:
    promote(signed.candidate, "staging", signed.config)
    shutil.copytree(tmp_path / "trust", tmp_path / "old")
    promote(signed.candidate, "staging", signed.config)
    Verifier(signed.config).candidate(signed.candidate, "staging")
    shutil.rmtree(tmp_path / "trust")
    (tmp_path / "old").rename(tmp_path / "trust")
    with pytest.raises(NotVerified, match="does not verify"):
        Verifier(signed.config).candidate(signed.candidate, "staging")


def test_expired_metadata_fails_closed_and_refreshing_helps(signed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from certify.trust import channels

    monkeypatch.setattr(
        channels, "_expiry", lambda kind: datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=5)
    )
    promote(signed.candidate, "staging", signed.config)
    with pytest.raises(NotVerified, match="expired") as caught:
        Verifier(signed.config).candidate(signed.candidate, "staging")
    assert "certify channels --refresh" in caught.value.hint
    monkeypatch.undo()
    with signed.repository.locked():
        signed.repository.refresh()
    assert Verifier(signed.config).candidate(signed.candidate, "staging").pointer.serial == 1
    promote(signed.candidate, "staging", signed.config)
    assert Verifier(signed.config).candidate(signed.candidate, "staging").pointer.serial == 2


def test_a_pointer_outside_its_validity_is_refused(signed: Project) -> None:
    promote(signed.candidate, "staging", signed.config)
    later = Verifier(signed.config, datetime.now(UTC) + timedelta(days=31))
    with pytest.raises(NotVerified, match="was blessed from"):
        later.candidate(signed.candidate, "staging")


def test_a_key_of_the_channel_that_is_missing_changes_nothing(signed: Project, tmp_path: Path) -> None:
    before = sorted(p.name for p in (tmp_path / "trust" / "metadata").iterdir())
    (tmp_path / "keys" / "approver-1.pem").unlink()
    with pytest.raises(KeyUnusable):
        promote(signed.candidate, "staging", signed.config)
    assert list(signed.repository.read().pointers()) == []
    after = sorted(p.name for p in (tmp_path / "trust" / "metadata").iterdir())
    assert "timestamp.json" in before
    assert set(after) - set(before) <= {"2.targets.json"}


def test_a_missing_repository_is_explained(project: Project, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "trust")
    with pytest.raises(TrustError, match="no channel repository"):
        project.repository.read()
    with pytest.raises(NotVerified, match="channel repository cannot be read"):
        Verifier(project.config).candidate(project.candidate, "staging")


@pytest.mark.parametrize("crash_at", range(1, 12))
def test_a_promotion_cut_anywhere_leaves_a_repository_that_verifies(
    signed: Project, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    """Every write may be the last one: the old state or the new one is published, and the next promotion succeeds."""
    from certify.trust import channels

    promote(signed.candidate, "staging", signed.config)
    real, count = channels.write_whole, 0

    def crashing(path: Path, data: bytes, *, sync: bool) -> None:
        nonlocal count
        count += 1
        if count == crash_at:
            path.with_name(path.name + ".partial").write_bytes(data[: len(data) // 2])
            raise KeyboardInterrupt
        real(path, data, sync=sync)

    monkeypatch.setattr(channels, "write_whole", crashing)
    try:
        promote(signed.candidate, "staging", signed.config)
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()
    assert Verifier(signed.config).candidate(signed.candidate, "staging").pointer.serial in (1, 2)
    serial = promote(signed.candidate, "staging", signed.config).serial
    assert Verifier(signed.config).candidate(signed.candidate, "staging").pointer.serial == serial


def _promote_in_process(config: Config, candidate: Candidate) -> int:
    return promote(candidate, "staging", config).serial


def test_promotions_at_once_wait_for_each_other(signed: Project) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        serials = pool.starmap(_promote_in_process, [(signed.config, signed.candidate)] * 8)
    assert sorted(serials) == list(range(1, 9))
    assert Verifier(signed.config).candidate(signed.candidate, "staging").pointer.serial == 8


def bundle_of(project: Project, run: Run) -> Bundle:
    bundle = Bundle.create(project.path / "runs" / "x", run)
    assert seal(bundle, run, bundle.write_manifest(), bundle.head, project.config) == ""
    return bundle


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (lambda: finished(check("test_a", "failed")), "did not pass"),
        (lambda: finished(status="running"), "is running"),
        (lambda: finished(product="other"), "is of product other"),
    ],
)
def test_only_finished_passing_runs_are_blessed(project: Project, run: Callable[[], Run], says: str) -> None:
    with pytest.raises(EvidenceError, match=says):
        bless(bundle_of(project, run()), project.config)


def test_changed_evidence_is_not_blessed(project: Project) -> None:
    bundle = bundle_of(project, finished(check("test_a", "failed")))
    run = msgspec.structs.replace(bundle.read_run(), verdicts={"app:1-container": "PASSED"})
    bundle.write_run(run)
    with pytest.raises(EvidenceError, match="run.json was changed after the run"):
        bless(bundle, project.config)
