"""Evidence and certificates: what was edited, taken away or put in is seen, by whoever signs and whoever judges."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from certify.errors import CertifyError, EvidenceError, NotVerified, Refused
from certify.evidence.bundle import Bundle
from certify.evidence.run import Run
from certify.trust.bless import bless, seal
from certify.trust.certificates import CertificateStore
from certify.trust.dsse import sign
from certify.trust.keys import KeyStore
from tests.unit.samples import OTHER, certificate_of, check, finished, plans_for, statement_of
from tests.unit.trust.project import Project, judge, make_project, now_text, promote


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path)


def sealed(project: Project, run: Run) -> Bundle:
    """A run's directory as its notary leaves it."""
    bundle = Bundle.create(project.path / "runs" / "x", msgspec.structs.replace(run, status="running"))
    for found in run.checks:
        bundle.append(found)
    bundle.close()
    bundle.write_run(run)
    assert seal(bundle, run, bundle.write_manifest(), bundle.head, project.config) == ""
    return bundle


def failed_run() -> Run:
    return finished(check("test_a"), check("test_b", "failed"), at=now_text())


def edit(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def passed(document: Any) -> None:
    document["verdicts"] = {"app:1-container": "PASSED"}
    for found in document["checks"]:
        found["outcome"] = "passed"


def test_a_sound_run_is_blessed(project: Project) -> None:
    assert bless(sealed(project, finished(at=now_text())), project.config)


@pytest.mark.parametrize(
    "harm", ["run.json", "outcomes", "manifest too", "everything but the seal", "another seal", "no seal"]
)
def test_edited_evidence_is_never_blessed(project: Project, harm: str) -> None:
    bundle = sealed(project, failed_run())
    edit(bundle.path / "run.json", passed)
    if harm in ("outcomes", "everything but the seal", "another seal"):
        lines = (bundle.path / "outcomes.jsonl").read_bytes().replace(b'"failed"', b'"passed"')
        (bundle.path / "outcomes.jsonl").write_bytes(lines)
    if harm != "run.json":
        bundle.write_manifest()
    if harm == "another seal":
        other = sealed(Project(project.config, project.path / "other", project.candidate), finished(at=now_text()))
        shutil.copy(other.path / "seal.dsse.json", bundle.path)
    if harm == "no seal":
        (bundle.path / "seal.dsse.json").unlink()
    with pytest.raises(EvidenceError, match="changed after the run|was not sealed"):
        bless(bundle, project.config)


def test_a_seal_by_another_key_is_none(project: Project, tmp_path: Path) -> None:
    bundle = sealed(project, finished(at=now_text()))
    for name in ("runner.pem", "runner.pub.json"):
        (tmp_path / "keys" / name).unlink()
    KeyStore(tmp_path / "keys").create()
    with pytest.raises(NotVerified, match="signed by 0 of the 1"):
        bless(bundle, project.config)


def test_outcomes_that_were_cut_or_moved_break_the_chain(project: Project) -> None:
    bundle = sealed(project, finished(check("test_a"), check("test_b"), check("test_c"), at=now_text()))
    lines = (bundle.path / "outcomes.jsonl").read_bytes().splitlines(keepends=True)
    assert len(bundle.outcomes()[0]) == 3
    for changed in (lines[:2], lines[1:], [lines[1], lines[0], lines[2]], [lines[0], lines[2]]):
        (bundle.path / "outcomes.jsonl").write_bytes(b"".join(changed))
        bundle.write_manifest()
        assert len(bundle.outcomes()[0]) < 3
        with pytest.raises(EvidenceError):
            bless(bundle, project.config)


@pytest.mark.parametrize("which", ["the failed one", "the newest", "all but the newest", "all"])
def test_a_certificate_that_was_deleted_is_missed(project: Project, tmp_path: Path, which: str) -> None:
    project.sign(failed_run())
    [failed] = (tmp_path / "certs").rglob("*.json")
    project.sign(finished(at=now_text()))
    newest = next(path for path in (tmp_path / "certs").rglob("*.json") if path != failed)
    for path in {"the failed one": [failed], "the newest": [newest], "all but the newest": [failed]}.get(
        which, [failed, newest]
    ):
        path.unlink()
    decision = judge(project.candidate, "staging", project.config).decision
    assert not decision.allow
    assert next(rule for rule in decision.rules if rule.id == "log").status == "fail"


def test_a_deleted_certificate_is_missed_where_nobody_signs(project: Project, tmp_path: Path) -> None:
    """On another machine, which does not have the signer's memory: the numbers have a gap."""
    project.sign(failed_run())
    [failed] = (tmp_path / "certs").rglob("*.json")
    project.sign(finished(at=now_text()))
    failed.unlink()
    (tmp_path / "keys" / "runner.log.json").unlink()
    assert not judge(project.candidate, "staging", project.config).decision.allow


def test_a_certificate_that_was_replaced_by_a_copy_of_another_is_missed(project: Project, tmp_path: Path) -> None:
    project.sign(failed_run())
    [failed] = (tmp_path / "certs").rglob("*.json")
    project.sign(finished(at=now_text()))
    newest = next(path for path in (tmp_path / "certs").rglob("*.json") if path != failed)
    failed.write_bytes(newest.read_bytes())
    assert not judge(project.candidate, "staging", project.config).decision.allow


@pytest.mark.parametrize("other", ["digest", "product"])
def test_a_certificate_about_another_image_proves_nothing(project: Project, tmp_path: Path, other: str) -> None:
    more = {"digest": OTHER} if other == "digest" else {"product": "app2"}
    if other == "digest":
        project.sign(finished(at=now_text(), **more))
        folder = tmp_path / "certs" / project.candidate.digest.removeprefix("sha256:")
        shutil.copytree(next((tmp_path / "certs").iterdir()), folder)
    else:
        envelope = sign(statement_of(finished(at=now_text(), **more)), KeyStore(tmp_path / "keys").signer("runner"))
        CertificateStore(tmp_path / "certs").put(project.candidate.digest, envelope)
    with pytest.raises(Refused, match="no valid certificate"):
        promote(project.candidate, "staging", project.config)


def test_a_certificate_of_other_bytes_under_the_same_manifest_is_refused(project: Project) -> None:
    project.sign(finished(at=now_text()))
    with pytest.raises(Refused, match="about the config"):
        promote(replace(project.candidate, config_digest=OTHER), "staging", project.config)


@pytest.mark.parametrize("role", ["gate", "approver-1", "targets", "snapshot", "deployer"])
def test_no_other_role_can_certify(project: Project, tmp_path: Path, role: str) -> None:
    envelope = sign(statement_of(finished(at=now_text())), KeyStore(tmp_path / "keys").signer(role))
    CertificateStore(tmp_path / "certs").put(project.candidate.digest, envelope)
    judged = judge(project.candidate, "staging", project.config)
    assert not judged.decision.allow
    assert "signed by 0 of the 1" in judged.unusable[0]


def test_a_newer_pass_of_less_does_not_hide_a_failure(project: Project) -> None:
    project.sign(failed_run())
    project.sign(
        finished(
            check("test_a"), plans=plans_for(*failed_run().checks), deselected=(check("test_b").id,), at=now_text()
        )
    )
    with pytest.raises(Refused, match="deselected"):
        promote(project.candidate, "staging", project.config)


def test_a_failed_certificate_cannot_be_explained_by_anyone(project: Project, tmp_path: Path) -> None:
    from certify.trust.explain import explain

    project.sign(failed_run())
    project.sign(finished(at=now_text()))
    digest = next(c.digest for c in _certificates(project, tmp_path) if c.failed)
    path = explain(digest, "the registry was down while it ran", project.config)
    assert judge(project.candidate, "staging", project.config).decision.allow
    document = json.loads(path.read_text())
    document["signatures"][0]["sig"] = document["signatures"][0]["sig"][::-1]
    path.write_text(json.dumps(document))
    assert not judge(project.candidate, "staging", project.config).decision.allow


def _certificates(project: Project, tmp_path: Path) -> list[Any]:
    keys = [KeyStore(tmp_path / "keys").public("runner")]
    return CertificateStore(tmp_path / "certs").about(project.candidate.digest, keys)[0]


def test_one_key_under_two_names_signs_once() -> None:
    from securesystemslib.signer import CryptoSigner, SSlibKey

    from certify.trust.dsse import verify

    signer = CryptoSigner.generate_ed25519()
    key = signer.public_key
    twin = SSlibKey("other", key.keytype, key.scheme, key.keyval)
    with pytest.raises(NotVerified, match="signed by 1 of the 2"):
        verify(sign({"a": 1}, signer), [key, twin], "x", threshold=2)


def test_a_private_key_that_is_not_its_public_ones_signs_nothing(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys")
    keys.create()
    (tmp_path / "keys/runner.pem").write_bytes((tmp_path / "keys/gate.pem").read_bytes())
    with pytest.raises(CertifyError, match="does not match public key|not that of its public key"):
        sign(statement_of(finished()), keys.signer("runner"))


@pytest.mark.parametrize("harm", ["folder", "public", "uri", "scheme", "two lines"])
def test_keys_that_others_could_have_put_there_are_refused(tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "keys"
    keys = KeyStore(folder)
    keys.create()
    uri = folder / "runner.uri"
    if harm == "folder":
        folder.chmod(0o777)
    elif harm == "public":
        (folder / "runner.pub.json").chmod(0o666)
    elif harm == "uri":
        uri.write_text(f"file2:{folder}/gate.pem")
        uri.chmod(0o666)
    else:
        uri.write_text("http://example.org/key" if harm == "scheme" else f"file2:{folder}/gate.pem\nx")
    with pytest.raises(CertifyError, match="others can write it|no signer for"):
        keys.signer("runner")


def test_a_certificate_needs_every_number_from_one(project: Project) -> None:
    from certify.trust.certificates import SignersLog, gaps

    log = SignersLog(project.path / "elsewhere")
    assert gaps(project.candidate.digest, "app", [certificate_of(finished(), 1)], log) == []
    assert gaps(project.candidate.digest, "app", [certificate_of(finished(), 2)], log) == [
        "certificate 1 of 2 is missing"
    ]


def test_a_kill_between_signing_and_storing_loses_no_certificate(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was signed is remembered first; whoever signs next stores it. A failure cannot vanish into that moment."""

    class Killed(BaseException):
        pass

    def killed(*_: object) -> str:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(CertificateStore, "put", killed)
        with pytest.raises(Killed):
            project.sign(failed_run())
    project.sign(finished(at=now_text()))
    judged = judge(project.candidate, "staging", project.config)
    assert next(rule for rule in judged.decision.rules if rule.id == "log").status == "pass"
    assert next(rule for rule in judged.decision.rules if rule.id == "retries").status == "fail"


def test_the_notary_signs_for_the_targets_that_were_named_at_the_beginning(project: Project) -> None:
    """What the process with the checks says at the end changes neither digest nor settings."""
    from certify.evidence.suite_files import SuiteFiles
    from certify.trust.notary import Begin, Booted, Finish, Notary, Outcome
    from certify.trust.witness import Witness

    config = project.path / "certify.yaml"
    trust = {key: str(value) for key, value in msgspec.to_builtins(project.config.trust).items() if value}
    config.write_text(json.dumps({"product": "app", "trust": trust}))
    (project.path / "suite").mkdir()
    files = SuiteFiles(str(project.path / "suite"))
    run = finished()
    suite = msgspec.structs.replace(run.suites[0], digest=files.digest())
    run = msgspec.structs.replace(run, suites=(suite,))
    directory = str(project.path / "runs" / "n")
    begin = Begin(directory, run, plans_for(*run.checks), {suite.name: files}, True, str(config))
    notary = Notary(begin, Witness(os.getpid()))
    for found in run.checks:
        notary.take(Outcome(found))
    answer = notary.finish(Finish({"app:1-container": Booted("cold"), "other": Booted("cold")}, {}))
    assert answer.run is not None
    assert [target.digest for target in answer.run.targets] == [run.targets[0].digest]
    assert answer.run.verdicts == {"app:1-container": "PASSED"}


def test_what_is_blessed_is_what_was_compared(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run.json that is forged for the reading and genuine for the comparing is neither."""
    bundle = sealed(project, failed_run())
    genuine = (bundle.path / "run.json").read_bytes()
    edit(bundle.path / "run.json", passed)
    forged = (bundle.path / "run.json").read_bytes()
    real = Bundle._files

    def meanwhile(self: Bundle) -> list[str]:
        (bundle.path / "run.json").write_bytes(genuine)
        return real(self)

    monkeypatch.setattr(Bundle, "_files", meanwhile)
    assert forged != genuine
    with pytest.raises(EvidenceError, match="changed after the run|did not pass"):
        bless(bundle, project.config)


def test_a_file_that_only_looks_like_a_certificate_is_evidence(project: Project) -> None:
    bundle = sealed(project, finished(at=now_text()))
    (bundle.path / "nodes").mkdir(exist_ok=True)
    (bundle.path / "nodes" / "certificate.txt").write_text("more")
    with pytest.raises(EvidenceError, match="added after the run"):
        bless(bundle, project.config)
