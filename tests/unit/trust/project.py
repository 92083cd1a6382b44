"""A project with keys, a repository and signed runs, for tests of trust; nothing is booted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from certify.config import Channel, Config, Requires, Trust
from certify.evidence.bundle import Bundle
from certify.evidence.run import Run
from certify.gate.policy import policy_of
from certify.images.candidate import Candidate
from certify.testing.local import FakeSource
from certify.trust.bless import sign_certificates
from certify.trust.channels import ChannelRepository
from certify.trust.keys import KeyStore
from certify.trust.pointer import Pointer
from certify.trust.promote import Judged
from certify.trust.promote import judge as ask_gate
from certify.trust.promote import promote as put_on
from tests.unit.samples import lock_of


@dataclass
class Project:
    """A project with keys, a repository and one signed run."""

    config: Config
    path: Path
    candidate: Candidate

    @property
    def repository(self) -> ChannelRepository:
        return ChannelRepository(self.config.trust)

    def sign(self, run: Run) -> None:
        bundle = Bundle.create(self.path / "runs" / f"{run.id}-{len(list(self.path.glob('runs/*')))}", run)
        sign_certificates(bundle, run, bundle.write_manifest(), self.config)

    def publish(self, pointer: Pointer) -> None:
        with self.repository.locked():
            self.repository.publish(pointer, self.repository.read())


def promote(candidate: Candidate, channel: str, config: Config) -> Pointer:
    return put_on(candidate, policy_of(config, channel, lock_of()), config)


def judge(candidate: Candidate, channel: str, config: Config) -> Judged:
    return ask_gate(candidate, policy_of(config, channel, lock_of()), config)


def now_text() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def make_project(tmp_path: Path) -> Project:
    """A fresh one, with an empty channel repository."""
    trust = Trust(
        repository=str(tmp_path / "trust"),
        keys=str(tmp_path / "keys"),
        certificates=str(tmp_path / "certs"),
        client=str(tmp_path / "client"),
        writer=str(tmp_path / "writer"),
    )
    wants = Requires(suites=["baseline"])
    config = Config(
        product="app",
        trust=trust,
        channels={"staging": Channel(requires=wants), "production": Channel(after="staging")},
    )
    KeyStore(tmp_path / "keys").create()
    made = Project(config, tmp_path, FakeSource().candidate)
    assert made.repository.create()
    assert not made.repository.create()
    return made
