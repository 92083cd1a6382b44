"""The channel repository: who can write it but holds no key changes nothing that counts, and gets nobody to sign it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tuf.api.metadata import Metadata, Targets

from certify.config import Channel, Config, load_config
from certify.errors import CertifyError, ConfigError, NotVerified, TrustError
from certify.files import write_whole
from certify.trust.keys import KeyStore
from certify.trust.published import role_name
from certify.trust.verify import Verifier
from tests.unit.samples import OTHER, finished
from tests.unit.trust.project import Project, make_project, now_text, promote


@pytest.fixture
def signed(tmp_path: Path) -> Project:
    project = make_project(tmp_path)
    project.sign(finished(at=now_text()))
    return project


@pytest.fixture
def standing(signed: Project) -> Project:
    """Something stands on staging."""
    promote(signed.candidate, "staging", signed.config)
    return signed


def metadata(project: Project, pattern: str) -> Path:
    return sorted((project.path / "trust" / "metadata").glob(pattern))[-1]


def edited(path: Path, change: Callable[[Any], None]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _more_pointers(document: Any) -> None:
    targets = document["signed"]["targets"]
    targets["staging/app/arm64.json"] = next(iter(targets.values()))


def _more_delegations(document: Any) -> None:
    roles = document["signed"]["delegations"]["roles"]
    roles.append(dict(roles[0], name="x"))


EDITS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "a target more in the top-level targets": (
        "*.targets.json",
        lambda d: d["signed"]["targets"].update(x=d["signed"]["targets"]["keys.json"]),
    ),
    "a delegation more": ("*.targets.json", _more_delegations),
    "a lower threshold": ("*.targets.json", lambda d: d["signed"]["delegations"]["roles"][0].update(threshold=0)),
    "an injected pointer": ("*staging*app.json", _more_pointers),
    "a later expiry": ("timestamp.json", lambda d: d["signed"].update(expires="2099-01-01T00:00:00Z")),
    "another snapshot": ("*.snapshot.json", lambda d: d["signed"]["meta"].popitem()),
    "no signature": ("timestamp.json", lambda d: d.update(signatures=[])),
    "a version from the future": ("timestamp.json", lambda d: d["signed"].update(version=999)),
}


@pytest.mark.parametrize("edit", EDITS)
def test_nobody_signs_on_top_of_an_edit(standing: Project, edit: str) -> None:
    pattern, change = EDITS[edit]
    edited(metadata(standing, pattern), change)
    with pytest.raises(CertifyError):
        promote(standing.candidate, "staging", standing.config)
    with pytest.raises(CertifyError), standing.repository.locked():
        standing.repository.refresh()
    with pytest.raises(CertifyError):
        Verifier(standing.config).candidate(standing.candidate, "staging")


def test_a_pointer_signed_by_a_key_of_no_channel_is_refused(standing: Project, tmp_path: Path) -> None:
    path = metadata(standing, "*staging*app.json")
    document: Metadata[Targets] = Metadata.from_bytes(path.read_bytes())
    document.signed.version += 1
    document.sign(KeyStore(tmp_path / "keys").signer("runner"))
    path.write_bytes(document.to_bytes())
    with pytest.raises(NotVerified):
        promote(standing.candidate, "staging", standing.config)


def test_an_old_state_is_not_signed_anew(standing: Project, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "trust", tmp_path / "old")
    promote(standing.candidate, "staging", standing.config)
    shutil.rmtree(tmp_path / "trust")
    (tmp_path / "old").rename(tmp_path / "trust")
    with pytest.raises(NotVerified, match="went back"), standing.repository.locked():
        standing.repository.refresh()
    with pytest.raises(NotVerified, match="went back"):
        promote(standing.candidate, "staging", standing.config)


def test_an_old_snapshot_under_the_newest_timestamp_is_refused(standing: Project) -> None:
    old = metadata(standing, "*.snapshot.json").read_bytes()
    promote(standing.candidate, "staging", standing.config)
    metadata(standing, "*.snapshot.json").write_bytes(old)
    with pytest.raises(NotVerified), standing.repository.locked():
        standing.repository.refresh()


def test_another_repository_in_its_place_is_refused(standing: Project, tmp_path: Path) -> None:
    other = make_project(tmp_path / "other")
    other.sign(finished(at=now_text()))
    promote(other.candidate, "staging", other.config)
    shutil.rmtree(tmp_path / "trust")
    shutil.copytree(tmp_path / "other" / "trust", tmp_path / "trust")
    with pytest.raises(NotVerified):
        promote(standing.candidate, "staging", standing.config)
    with pytest.raises(NotVerified):
        Verifier(standing.config).candidate(standing.candidate, "staging")


def test_a_repository_is_not_believed_at_first_sight(standing: Project, tmp_path: Path) -> None:
    """A machine that never used it asks; where nobody can be asked it refuses."""
    shutil.rmtree(tmp_path / "client")
    with pytest.raises(NotVerified, match="never used on this machine"):
        Verifier(standing.config).candidate(standing.candidate, "staging")
    asked: list[str] = []

    def yes(fingerprint: str) -> bool:
        asked.append(fingerprint)
        return True

    assert Verifier(standing.config, confirm=yes).candidate(standing.candidate, "staging")
    assert len(asked) == 1
    assert Verifier(standing.config).candidate(standing.candidate, "staging")


def test_a_root_that_is_named_later_must_be_the_one_that_was_believed(standing: Project, tmp_path: Path) -> None:
    other = make_project(tmp_path / "other")
    root = Path(other.config.trust.repository) / "metadata" / "1.root.json"
    trust = msgspec.structs.replace(standing.config.trust, root=str(root))
    with pytest.raises(NotVerified, match="but this machine believes"):
        Verifier(msgspec.structs.replace(standing.config, trust=trust)).candidate(standing.candidate, "staging")


def _decision(project: Project) -> tuple[Path, Any]:
    pointer = next(iter(project.repository.read().pointers()))
    path = Path(project.config.trust.repository) / "certificates" / f"{pointer.decision.removeprefix('sha256:')}.json"
    return path, pointer


def test_a_pointer_whose_decision_is_gone_is_refused(standing: Project) -> None:
    path, _ = _decision(standing)
    path.unlink()
    with pytest.raises(NotVerified):
        Verifier(standing.config).candidate(standing.candidate, "staging")


@pytest.mark.parametrize(
    "change",
    [
        {"digest": OTHER},
        {"config_digest": OTHER},
        {"resource_uri": "docker-daemon:sha256:" + "c" * 64},
        {"certificates": ()},
        {"certificates": ("sha256:" + "c" * 64,)},
        {"decision": "sha256:" + "c" * 64},
        {"decision": "../../../etc/passwd"},
        {"serial": 1, "not_before": "2020-01-01T00:00:00Z"},
        {"serial": 3},
        {"valid_until": "2099-01-01T00:00:00Z"},
        {"media_type": "application/x-raw-disk"},
        {"size": 1},
        {"tests": ()},
        {"previous": OTHER},
    ],
)
def test_an_approver_alone_blesses_nothing(standing: Project, change: dict[str, Any]) -> None:
    """Whoever holds the approver's key can sign a pointer, but not the decision and certificates that it must rest on."""
    _, pointer = _decision(standing)
    standing.publish(msgspec.structs.replace(pointer, **{"serial": 2, **change}))
    with pytest.raises(NotVerified):
        Verifier(standing.config).channel("staging", standing.candidate.architecture)


def test_a_decision_about_one_architecture_says_nothing_of_another(standing: Project) -> None:
    _, pointer = _decision(standing)
    standing.publish(msgspec.structs.replace(pointer, arch="arm64"))
    with pytest.raises(NotVerified, match="its pointer is"):
        Verifier(standing.config).channel("staging", "arm64")


def test_a_decision_of_another_channel_does_not_count(standing: Project) -> None:
    _, pointer = _decision(standing)
    standing.publish(msgspec.structs.replace(pointer, channel="production", serial=1))
    with pytest.raises(NotVerified, match="its channel is"):
        Verifier(standing.config).channel("production", standing.candidate.architecture)


def test_a_serial_that_went_back_is_refused(standing: Project) -> None:
    _, first = _decision(standing)
    promote(standing.candidate, "staging", standing.config)
    Verifier(standing.config).candidate(standing.candidate, "staging")
    standing.publish(first)
    with pytest.raises(NotVerified, match="went back to serial 1"):
        Verifier(standing.config).candidate(standing.candidate, "staging")


def test_a_clock_that_went_back_is_refused(standing: Project) -> None:
    Verifier(standing.config, datetime.now(UTC) + timedelta(hours=1)).candidate(standing.candidate, "staging")
    with pytest.raises(NotVerified, match="clock"):
        Verifier(standing.config).candidate(standing.candidate, "staging")


def test_asking_about_another_time_leaves_no_trace(standing: Project) -> None:
    from certify.gate.policy import policy_of
    from certify.trust.promote import judge
    from tests.unit.samples import lock_of

    late = {**standing.config.channels, "late": Channel(after="staging")}
    config = msgspec.structs.replace(standing.config, channels=late)
    judge(standing.candidate, policy_of(config, "late", lock_of()), config, now=datetime.now(UTC) + timedelta(days=5))
    Verifier(standing.config).candidate(standing.candidate, "staging")


def test_two_channels_never_share_a_role() -> None:
    assert role_name("staging", "x-demo") != role_name("staging-x", "demo")
    assert role_name("a", "b.c") != role_name("a.b", "c")


@pytest.mark.parametrize("product", ["demo\n", "demo~x", "../demo", "a/b", "", "Demo", "demo\u202e", "-demo"])
def test_a_product_is_a_plain_name(tmp_path: Path, product: str) -> None:
    path = tmp_path / "certify.yaml"
    path.write_text(f"product: {json.dumps(product)}\n")
    with pytest.raises(ConfigError, match="product"):
        load_config(path)


def test_a_link_that_waits_for_a_temporary_file_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (tmp_path / "repository").mkdir()
    for name in ("a.json.partial", ".a.json.partial"):
        (tmp_path / "repository" / name).symlink_to(outside)
    write_whole(tmp_path / "repository" / "a.json", b"new")
    assert outside.read_text() == "mine"
    assert (tmp_path / "repository" / "a.json").read_text() == "new"


@pytest.mark.parametrize("where", ["timestamp.json", "pointer", "certificate"])
def test_a_pipe_in_place_of_a_file_is_no_end_of_waiting(standing: Project, tmp_path: Path, where: str) -> None:
    path = {
        "timestamp.json": metadata(standing, "timestamp.json"),
        "pointer": next((tmp_path / "trust" / "targets" / "staging").rglob("*.json")),
        "certificate": next((tmp_path / "certs").rglob("*.json")),
    }[where]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises((TrustError, CertifyError)):
        promote(standing.candidate, "staging", standing.config)


def test_keys_that_the_repository_does_not_trust_are_no_keys(standing: Project, tmp_path: Path) -> None:
    """A gate key of one's own decides nothing: which keys count is what keys.json says."""
    for name in ("gate.pem", "gate.pub.json"):
        (tmp_path / "keys" / name).unlink()
    KeyStore(tmp_path / "keys").create()
    with pytest.raises(NotVerified, match="not the one that the channels trust"):
        promote(standing.candidate, "staging", standing.config)


def test_a_failed_certificate_under_a_pointer_is_refused(standing: Project, tmp_path: Path) -> None:
    """Gate and approver together cannot bless what the runner saw fail."""
    from certify.gate.decision import Decision
    from certify.gate.policy import policy_of
    from certify.images.candidate import digest_of
    from certify.trust.certificates import CertificateStore
    from certify.trust.dsse import sign
    from certify.trust.summary import summary
    from tests.unit.samples import check, lock_of

    standing.sign(finished(check("test_a"), check("test_b", "failed"), at=now_text()))
    keys = KeyStore(tmp_path / "keys")
    good, _ = CertificateStore(tmp_path / "certs").about(standing.candidate.digest, [keys.public("runner")])
    failed = next(c for c in good if c.failed)
    folder = Path(standing.config.trust.repository) / "certificates"
    data = CertificateStore(tmp_path / "certs").get(standing.candidate.digest, failed.digest)
    (folder / f"{failed.digest[7:]}.json").write_bytes(data)

    class Yes(Decision):
        allow = True  # type: ignore[assignment]
        evidence = (failed.digest,)  # type: ignore[assignment]

    policy = policy_of(standing.config, "staging", lock_of())
    _, pointer = _decision(standing)
    pointer = msgspec.structs.replace(pointer, serial=2, certificates=(failed.digest,))
    document = sign(summary(pointer, Yes("staging", "", "", ()), policy), keys.signer("gate"))
    (folder / f"{digest_of(document)[7:]}.json").write_bytes(document)
    standing.publish(msgspec.structs.replace(pointer, decision=digest_of(document)))
    with pytest.raises(NotVerified, match="is FAILED, not PASSED"):
        Verifier(standing.config).candidate(standing.candidate, "staging")


def test_what_a_client_remembers_is_kept_apart_from_what_a_writer_does() -> None:
    trust = Config().trust
    assert trust.client != trust.writer


def test_verifying_many_times_at_once_is_all_yes(standing: Project) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def once(_: int) -> bool:
        return Verifier(standing.config).stands_on(standing.candidate, "staging")

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(once, range(40)))


@pytest.mark.parametrize("left", ["nothing", "all but the timestamp", "the root of another"])
def test_what_is_not_whole_is_not_begun_anew(standing: Project, left: str) -> None:
    """`certify init` where a share is not mounted, or a file is missing, replaces neither files nor what is remembered."""
    folder = standing.path / "trust" / "metadata"
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        if left == "nothing" or path.name == "timestamp.json":
            path.unlink()
    if left == "the root of another":
        (folder / "1.root.json").write_text("{}")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TrustError, match="is not whole"):
        standing.repository.create()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for name, data in kept.items():
        (folder / name).write_bytes(data)
    assert Verifier(standing.config).stands_on(standing.candidate, "staging")
    assert promote(standing.candidate, "staging", standing.config).serial == 2


def test_a_creation_that_was_killed_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from certify.config import Trust
    from certify.trust import channels, published
    from certify.trust import root as trusted_root

    trust = Trust(**{name: str(tmp_path / name) for name in ("repository", "keys", "certificates", "client", "writer")})
    KeyStore(Path(trust.keys)).create()
    real = channels.write_whole
    for writes in range(1, 9):
        left = iter(range(writes))

        def dying(*arguments: Any, _left: Any = left, **more: Any) -> None:
            next(_left)
            real(*arguments, **more)

        for module in (channels, trusted_root):
            monkeypatch.setattr(module, "write_whole", dying)
        with contextlib.suppress(StopIteration, RuntimeError):
            channels.ChannelRepository(trust).create()
    monkeypatch.undo()
    channels.ChannelRepository(trust).create()
    assert isinstance(channels.ChannelRepository(trust).read(), published.Published)


def test_an_emptied_pin_is_not_first_use(standing: Project) -> None:
    pin = Path(standing.config.trust.client) / "pinned.root.json"
    pin.write_bytes(b"")
    with pytest.raises(TrustError, match="it is empty"):
        Verifier(standing.config, confirm=lambda _: True).channel("staging", standing.candidate.architecture)


@pytest.mark.parametrize("at_once", [True, False])
def test_what_two_remember_at_once_is_the_higher(tmp_path: Path, at_once: bool) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from certify.trust.memory import Remembered

    def add(number: int) -> None:
        Remembered(tmp_path / "seen.json", dict[str, int], {}).update(lambda seen: {**seen, f"fleet-{number}": number})

    with ThreadPoolExecutor(8 if at_once else 1) as pool:
        list(pool.map(add, range(30)))
    assert len(Remembered(tmp_path / "seen.json", dict[str, int], {}).read()) == 30
