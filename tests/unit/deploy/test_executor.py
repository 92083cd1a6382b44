"""The executor over an in-memory fleet and a real ledger: killed anywhere, it goes on; fenced off, it stops."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certify.config import Fleet, Health, Instance
from certify.deploy.executor import Executor
from certify.deploy.plan import lint, make_plan
from certify.deploy.rollout import Observation, Rollout, Status, begin
from certify.errors import LeaseLost, NotVerified, RolloutError
from certify.ledger.rollouts import RolloutLedger
from certify.testing.local import FakeSource
from certify.trust.pointer import Pointer
from certify.trust.sealed import Seal
from tests.unit.deploy.samples import NEW, OLD, MemoryFleet, plan

ALL = [(verb, f"web-{i}") for verb in ("provision", "validate", "admit", "soak") for i in range(3)]


def ledger_at(tmp_path: Path, owner: str = "me", *, alive: bool = False) -> RolloutLedger:
    return RolloutLedger(f"sqlite:///{tmp_path}/state/certify.db", owner, lambda _: alive, Seal(tmp_path / "keys"))


def go(ledger: RolloutLedger, fleet: MemoryFleet, state: Rollout | None = None) -> Rollout:
    ledger.take_lease("web")
    found = state or ledger.unfinished("web")
    if found is None:
        found = begin("r1", plan())
        ledger.start(found)
    return Executor(ledger, fleet, source, lambda *_: None).run(found)


def source() -> FakeSource:
    return FakeSource("new", NEW.digest)


def old_fleet(**more: object) -> MemoryFleet:
    return MemoryFleet(serving={f"web-{i}": OLD for i in range(3)}, **more)  # type: ignore[arg-type]


def test_a_fleet_is_rolled_over(tmp_path: Path) -> None:
    fleet = old_fleet()
    assert go(ledger_at(tmp_path), fleet).status is Status.DONE
    assert set(fleet.serving.values()) == {NEW}
    assert fleet.held == {}
    assert fleet.proofs == set()


@pytest.mark.parametrize("failing", ALL)
def test_whatever_fails_the_fleet_is_as_before(tmp_path: Path, failing: tuple[str, str]) -> None:
    fleet, ledger = old_fleet(fail={failing}), ledger_at(tmp_path)
    state = go(ledger, fleet)
    assert state.status is Status.ROLLED_BACK
    assert set(fleet.serving.values()) == {OLD}
    assert fleet.proofs == set()
    assert ledger.quarantined("web", NEW.digest) == state.reason


def test_unknown_pauses_and_the_next_run_goes_on(tmp_path: Path) -> None:
    fleet, ledger = old_fleet(unknown={("admit", "web-1")}), ledger_at(tmp_path)
    assert go(ledger, fleet).status is Status.PAUSED
    assert fleet.serving["web-0"] == NEW
    assert go(ledger, fleet).status is Status.DONE


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it."""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(kills=st.lists(st.integers(0, 30), max_size=4), failing=st.sampled_from([None, *ALL]))
def test_killed_anywhere_it_ends_as_if_it_had_not_been(
    tmp_path_factory: pytest.TempPathFactory, kills: list[int], failing: tuple[str, str] | None
) -> None:
    tmp_path = tmp_path_factory.mktemp("kill")
    fleet = old_fleet(fail={failing} if failing else set())
    for number, after in enumerate([*kills, 10_000]):
        ledger = ledger_at(tmp_path, f"deployer-{number}")
        count = 0

        def kill(*_: object, after: int = after) -> None:
            nonlocal count
            count += 1
            if count > after:
                raise Killed

        ledger.take_lease("web")
        state = ledger.unfinished("web")
        if state is None:
            if ledger.all("web"):
                break
            state = begin("r1", plan())
            ledger.start(state)
        try:
            Executor(ledger, fleet, source, kill).run(state)
        except Killed:
            continue
    final = ledger_at(tmp_path).all("web")[0]
    assert final.status is (Status.ROLLED_BACK if failing else Status.DONE)
    assert set(fleet.serving.values()) == {OLD if failing else NEW}
    assert fleet.proofs == set()


def test_two_deployers_do_not_meet(tmp_path: Path) -> None:
    first = ledger_at(tmp_path, "first", alive=True)
    first.take_lease("web")
    with pytest.raises(RolloutError, match=r"another deployer is at work \(first\)"):
        ledger_at(tmp_path, "second", alive=True).take_lease("web")
    first.give_lease_back("web")
    ledger_at(tmp_path, "second", alive=True).take_lease("web")


def test_who_lost_the_lease_cannot_act(tmp_path: Path) -> None:
    first = ledger_at(tmp_path, "first")
    first.take_lease("web")
    ledger_at(tmp_path, "second", alive=False).take_lease("web")
    with pytest.raises(LeaseLost):
        first.start(begin("r1", plan()))
    assert first.all() == []


def test_the_journal_has_an_intent_before_every_observation(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path)
    go(ledger, old_fleet())
    kinds = [entry["kind"] for entry in ledger.journal("r1")]
    assert kinds == ["intent", "observation"] * (len(kinds) // 2)
    assert len(kinds) == 2 * 15


def test_a_database_that_cannot_be_opened_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no database, and long enough to be looked at" * 100)
    for url in (f"sqlite:///{tmp_path}/file", "nonsense", "postgresql+nodriver://x/y"):
        with pytest.raises(RolloutError, match="state: cannot open"):
            RolloutLedger(url, "me", lambda _: False, Seal(Path("unused")))


def pointer() -> Pointer:
    return Pointer(
        channel="staging", product="app", arch="amd64", serial=2, digest=NEW.digest, config_digest=NEW.config_digest,
        media_type="", size=1, resource_uri=NEW.resource_uri, certificates=(), decision="",
        tests=(), not_before="", valid_until="",
    )  # fmt: skip


def test_a_plan_freezes_what_runs_now() -> None:
    fleet = Fleet(fleet="web", instances=[Instance(name="a"), Instance(name="b")])
    made = make_plan(fleet, "staging", pointer(), {"a": OLD, "b": NEW})
    assert [(i.name, i.previous, i.changes) for i in made.instances] == [("a", OLD, True), ("b", NEW, False)]
    assert made.release == NEW


@pytest.mark.parametrize(
    ("health", "says"),
    [(Health(interval="10s", successes=9, start_period="30s"), "do not fit"), (Health(port=9), "does not publish")],
)
def test_a_plan_that_could_only_fail_is_refused(health: Health, says: str) -> None:
    fleet = Fleet(fleet="web", health=health, instances=[Instance(name="a", publish={"80": 80})])
    with pytest.raises(RolloutError, match=says):
        lint(fleet)


def test_other_bytes_than_the_blessed_are_never_provisioned(tmp_path: Path) -> None:
    fleet, ledger = old_fleet(), ledger_at(tmp_path)
    ledger.take_lease("web")
    state = begin("r1", plan())
    ledger.start(state)
    ended = Executor(ledger, fleet, lambda: FakeSource("new", OLD.digest), lambda *_: None).run(state)
    assert ended.status is Status.PAUSED
    assert "not the blessed digest" in ended.reason
    assert ("provision", "web-0") not in fleet.calls


def test_a_plan_that_somebody_changed_is_not_carried_out(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path)
    ledger.take_lease("web")
    ledger.start(begin("r1", plan()))
    file = tmp_path / "state" / "certify.db"
    with contextlib.closing(sqlite3.connect(file)) as database:
        row = database.execute("select state from rollouts").fetchone()[0]
        database.execute("update rollouts set state = ?", (row.replace("2" * 64, "3" * 64),))
        database.commit()
    with pytest.raises(NotVerified, match="rollout r1 in the ledger was changed"):
        ledger.unfinished("web")


def test_an_older_state_that_was_put_back_is_not_carried_on(tmp_path: Path) -> None:
    fleet, ledger = old_fleet(), ledger_at(tmp_path)
    ledger.take_lease("web")
    state = begin("r1", plan())
    ledger.start(state)
    file = tmp_path / "state" / "certify.db"
    with contextlib.closing(sqlite3.connect(file)) as database:
        begun = database.execute("select state from rollouts").fetchone()[0]
    assert Executor(ledger, fleet, source, lambda *_: None).run(state).status is Status.DONE
    assert ledger.unfinished("web") is None
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("update rollouts set state = ?, status = 'running'", (begun,))
        database.commit()
    with pytest.raises(NotVerified, match="an older state"):
        ledger.unfinished("web")


@pytest.mark.parametrize("fails", [{("soak", "web-1")}, {("soak", "web-1"), ("restore", "web-1")}])
def test_a_digest_that_failed_is_quarantined_before_it_is_over(tmp_path: Path, fails: set[tuple[str, str]]) -> None:
    """Also where the way back failed, and where the deployer died right before the end was written down."""
    fleet, ledger = old_fleet(fail=fails), ledger_at(tmp_path)
    real = ledger.observe

    def dying(state: Rollout, seen: Observation) -> None:
        if state.status in (Status.ROLLED_BACK, Status.STUCK):
            raise Killed
        real(state, seen)

    ledger.observe = dying  # type: ignore[method-assign]
    with pytest.raises(Killed):
        go(ledger, fleet)
    again = ledger_at(tmp_path)
    assert again.quarantined("web", NEW.digest)
    assert again.unfinished("web") is not None
    assert go(again, fleet).status in (Status.ROLLED_BACK, Status.STUCK)


COLUMN = "update rollouts set status = 'done'"


@pytest.mark.parametrize(
    "harm",
    [
        COLUMN,
        "delete from rollouts",
        "update rollouts set state = 'x', status = 'done'",
        "update rollouts set fleet = 'zzz'",
    ],
)
def test_a_rollout_that_is_not_over_cannot_be_hidden(tmp_path: Path, harm: str) -> None:
    fleet, ledger = old_fleet(), ledger_at(tmp_path)
    ledger.take_lease("web")
    state = begin("r1", plan())
    ledger.start(state)

    def dying(*_: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        Executor(ledger, fleet, source, dying).run(state)
    with sqlite3.connect(tmp_path / "state/certify.db") as database:
        database.execute(harm)
    database.close()
    if harm == COLUMN:  # what stands beside the sealed state says nothing
        found = ledger_at(tmp_path).unfinished("web")
        assert found is not None
        assert found.id == "r1"
    else:
        with pytest.raises(NotVerified):
            ledger_at(tmp_path).unfinished("web")


def test_a_quarantine_cannot_be_hidden(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path)
    assert go(ledger, old_fleet(fail={("soak", "web-1")})).status is Status.ROLLED_BACK
    with sqlite3.connect(tmp_path / "state/certify.db") as database:
        database.execute("delete from quarantine")
    database.close()
    assert "taken that out" in str(ledger_at(tmp_path).quarantined("web", NEW.digest))
    assert ledger_at(tmp_path).quarantined("other", NEW.digest) is None


def test_a_kill_right_behind_the_end_leaves_nothing_to_miss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = ledger_at(tmp_path)

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(Seal, "unmark", killed)
    with pytest.raises(Killed):
        go(ledger, old_fleet())
    monkeypatch.undo()
    assert ledger_at(tmp_path).unfinished("web") is None
    assert ledger_at(tmp_path).unfinished("web") is None
