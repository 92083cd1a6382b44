"""The ledger's fence: whoever has lost a fleet's lease writes nothing more."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from certify.deploy.rollout import begin
from certify.errors import LeaseLost
from certify.ledger.rollouts import RolloutLedger
from certify.trust.keys import KeyStore
from certify.trust.sealed import Seal
from tests.unit.deploy.samples import plan


class SealMetByAnother(Seal):
    """While something is sealed, another deployer tries to take over; ``early`` says whether it could."""

    other: RolloutLedger
    early = False

    def close(self, name: str, text: str) -> str:
        thread = threading.Thread(target=self.other.take_lease, args=("web",))
        thread.start()
        thread.join(0.5)
        self.early = not thread.is_alive()
        self.thread = thread
        return super().close(name, text)


def test_a_lease_is_not_taken_between_the_look_at_it_and_what_is_written(tmp_path: Path) -> None:
    KeyStore(tmp_path / "keys").create()
    url = f"sqlite:///{tmp_path}/certify.db"
    seal = SealMetByAnother(tmp_path / "keys")
    ours = RolloutLedger(url, "ours", lambda _: False, seal)
    seal.other = RolloutLedger(url, "theirs", lambda _: False, Seal(tmp_path / "keys"))
    ours.take_lease("web")
    ours.start(begin("r1", plan()))
    assert not seal.early
    seal.thread.join(30)
    assert seal.other.unfinished("web") is not None
    with pytest.raises(LeaseLost):
        ours.start(begin("r2", plan()))
