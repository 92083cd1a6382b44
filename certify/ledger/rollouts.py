"""The rollout ledger. Every write is fenced: it is made only while the writer still holds the fleet's lease.

A lease has a token that only ever grows; a deployer whose token is no longer the newest gets LeaseLost and stops.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Column, Integer, MetaData, String, Table, Text, create_engine, event, insert, select, update
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from certify.deploy.rollout import ENDED, Action, Observation, Rollout
from certify.errors import LeaseLost, NotVerified, RolloutError
from certify.trust.sealed import Seal

_TABLES = MetaData()
_ROLLOUTS = Table(
    "rollouts",
    _TABLES,
    Column("id", String(40), primary_key=True),
    Column("fleet", String(64), index=True, nullable=False),
    Column("channel", String(64), nullable=False),
    Column("digest", String(71), nullable=False),
    Column("status", String(24), nullable=False),
    Column("state", Text, nullable=False),
    Column("created", String(24), nullable=False),
    Column("updated", String(24), nullable=False),
)
_JOURNAL = Table(
    "journal",
    _TABLES,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("rollout", String(40), index=True, nullable=False),
    Column("kind", String(12), nullable=False),
    Column("body", Text, nullable=False),
    Column("token", Integer, nullable=False),
    Column("at", String(32), nullable=False),
)
_LEASES = Table(
    "leases",
    _TABLES,
    Column("fleet", String(64), primary_key=True),
    Column("owner", String(200), nullable=False),
    Column("token", Integer, nullable=False),
)
_QUARANTINE = Table(
    "quarantine",
    _TABLES,
    Column("fleet", String(64), primary_key=True),
    Column("digest", String(71), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("at", String(24), nullable=False),
)


#: What a deployer remembers of digests that failed.
_QUARANTINED = "quarantined:"


class RolloutLedger:
    """Rollouts of all fleets. ``owner`` names the deploying process (see :mod:`certify.nodes.owner`)."""

    def __init__(self, url: str, owner: str, is_alive: Callable[[str], bool], seal: Seal) -> None:
        self._owner = owner
        self._seal = seal
        self._is_alive = is_alive
        self._token = 0
        try:
            parsed = make_url(url)
            if parsed.get_backend_name() == "sqlite" and parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self._engine = create_engine(url)
            if parsed.get_backend_name() == "sqlite":
                event.listen(self._engine, "connect", _durable)
                event.listen(self._engine, "begin", _begin_writing)
            _TABLES.create_all(self._engine)
        except (SQLAlchemyError, ArgumentError, ImportError, OSError) as error:
            raise RolloutError(
                f"state: cannot open {url}: {_first_line(error)}", "see state: in certify.yaml"
            ) from None

    def take_lease(self, fleet: str) -> None:
        """Become the fleet's only deployer. Raises RolloutError while another one lives."""
        with self._transaction() as connection:
            row = connection.execute(select(_LEASES).where(_LEASES.c.fleet == fleet).with_for_update()).first()
            if row is None:
                self._token = 1
                connection.execute(insert(_LEASES).values(fleet=fleet, owner=self._owner, token=1))
                return
            if row.owner not in ("", self._owner) and self._is_alive(row.owner):
                raise RolloutError(f"fleet {fleet}: another deployer is at work ({row.owner})", "wait for it to end")
            self._token = row.token + 1
            taken = update(_LEASES).where(_LEASES.c.fleet == fleet, _LEASES.c.token == row.token)
            if connection.execute(taken.values(owner=self._owner, token=self._token)).rowcount != 1:
                raise RolloutError(f"fleet {fleet}: another deployer was faster", "wait for it to end")

    def give_lease_back(self, fleet: str) -> None:
        """Let others deploy. A killed process need not: its death is seen."""
        with self._transaction() as connection:
            mine = update(_LEASES).where(_LEASES.c.fleet == fleet, _LEASES.c.token == self._token)
            connection.execute(mine.values(owner=""))

    def start(self, state: Rollout) -> None:
        """Write a new rollout down before anything is done."""
        plan = state.plan
        with self._fenced(plan.fleet) as connection:
            row = {"id": state.id, "fleet": plan.fleet, "channel": plan.channel, "digest": plan.release.digest}
            text = self._seal.close(_name(state.id), _text(state))
            now = {"status": state.status, "state": text, "created": _now(), "updated": _now()}
            connection.execute(insert(_ROLLOUTS).values(**row, **now))
        self._seal.remember(_name(state.id), text)
        if state.status not in ENDED:
            self._seal.mark(_unfinished(plan.fleet), state.id)

    def intend(self, state: Rollout, action: Action) -> None:
        """What is about to be done."""
        with self._fenced(state.plan.fleet) as connection:
            self._note(connection, state, "intent", _text(action))

    def observe(self, state: Rollout, seen: Observation) -> None:
        """What was seen, and the state that follows."""
        with self._fenced(state.plan.fleet) as connection:
            text = self._seal.close(_name(state.id), _text(state))
            values = {"status": state.status, "state": text, "updated": _now()}
            connection.execute(update(_ROLLOUTS).where(_ROLLOUTS.c.id == state.id).values(**values))
            self._note(connection, state, "observation", _text(seen))
        self._seal.remember(_name(state.id), text)
        if state.status in ENDED:
            self._seal.unmark(_unfinished(state.plan.fleet), state.id)

    def unfinished(self, fleet: str) -> Rollout | None:
        """The fleet's rollout that has not ended, if any. Raises NotVerified for a row that somebody else wrote, and for an
        unfinished one with a newer one behind it: no deployer leaves that."""
        rows = self._rows(fleet)
        self._require_kept(fleet, rows)
        for number, row in enumerate(rows):
            if row.status not in ENDED or number == 0:
                state = self._opened_unless_ended(row)
                if state is not None and state.status not in ENDED:
                    if number:
                        raise NotVerified(
                            f"{_name(row.id)} is unfinished, and a newer one is there", "restore the ledger"
                        )
                    return state
        return None

    def _require_kept(self, fleet: str, rows: list[Any]) -> None:
        """Raise NotVerified where a rollout that this deployer has not ended is gone, or only says that it has ended."""
        by_id = {row.id: row for row in rows}
        for rollout in self._seal.marked(_unfinished(fleet)):
            row = by_id.get(rollout)
            state = self._opened_unless_ended(row) if row is not None else None
            if state is None:
                raise NotVerified(
                    f"{_name(rollout)} of fleet {fleet} is not over, and somebody has taken it out or changed it",
                    "restore the ledger as it was",
                )
            if state.status in ENDED:  # a kill came between the end and its being remembered
                self._seal.unmark(_unfinished(fleet), rollout)

    def all(self, fleet: str | None = None) -> list[Rollout]:
        """Rollouts, newest first; ended ones that were not sealed here are left out. Raises NotVerified for others."""
        opened = (self._opened_unless_ended(row) for row in self._rows(fleet))
        return [state for state in opened if state is not None]

    def _rows(self, fleet: str | None) -> list[Any]:
        columns = (_ROLLOUTS.c.id, _ROLLOUTS.c.fleet, _ROLLOUTS.c.status, _ROLLOUTS.c.state)
        wanted = select(*columns).order_by(_ROLLOUTS.c.id.desc())
        with self._transaction() as connection:
            return list(connection.execute(wanted if fleet is None else wanted.where(_ROLLOUTS.c.fleet == fleet)).all())

    def _opened_unless_ended(self, row: Any) -> Rollout | None:
        """A row's state; None for one that nobody here sealed and that is over: nothing is done for it any more."""
        try:
            state = msgspec.json.decode(self._seal.open(_name(row.id), row.state), type=Rollout)
        except NotVerified:
            if row.status in ENDED:
                return None
            raise
        if (state.id, state.plan.fleet) != (row.id, row.fleet):
            raise NotVerified(f"{_name(row.id)} is of fleet {state.plan.fleet}", "restore the ledger")
        return state

    def journal(self, rollout_id: str) -> list[dict[str, Any]]:
        """Everything written about one rollout, in order."""
        wanted = select(_JOURNAL).where(_JOURNAL.c.rollout == rollout_id).order_by(_JOURNAL.c.number)
        with self._transaction() as connection:
            rows = connection.execute(wanted).all()
        return [{"kind": r.kind, "at": r.at, "token": r.token, **msgspec.json.decode(r.body)} for r in rows]

    def quarantine(self, fleet: str, digest: str, reason: str) -> None:
        """Remember that a digest failed on a fleet."""
        with self._fenced(fleet) as connection:
            known = select(_QUARANTINE).where(_QUARANTINE.c.fleet == fleet, _QUARANTINE.c.digest == digest)
            if connection.execute(known).first() is None:
                connection.execute(insert(_QUARANTINE).values(fleet=fleet, digest=digest, reason=reason, at=_now()))
        self._seal.mark(_QUARANTINED, f"{fleet} {digest}")

    def quarantined(self, fleet: str, digest: str) -> str | None:
        """Why a digest is quarantined for a fleet; None if it is not."""
        wanted = select(_QUARANTINE.c.reason).where(_QUARANTINE.c.fleet == fleet, _QUARANTINE.c.digest == digest)
        with self._transaction() as connection:
            row = connection.execute(wanted).first()
        if row is None and f"{fleet} {digest}" in self._seal.marked(_QUARANTINED):
            return "it failed, and the ledger no longer says why: somebody has taken that out"
        return row.reason if row else None

    def _note(self, connection: Connection, state: Rollout, kind: str, body: str) -> None:
        connection.execute(
            insert(_JOURNAL).values(rollout=state.id, kind=kind, body=body, token=self._token, at=_now())
        )

    @contextmanager
    def _fenced(self, fleet: str) -> Iterator[Connection]:
        with self._transaction() as connection:
            row = connection.execute(select(_LEASES.c.token).where(_LEASES.c.fleet == fleet).with_for_update()).first()
            if row is None or row.token != self._token:
                raise LeaseLost(f"fleet {fleet}: another deployer took over", "see `certify rollout status`")
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise RolloutError(
                f"state: the ledger failed: {_first_line(error)}", "see state: in certify.yaml"
            ) from None


def new_rollout_id() -> str:
    """Sortable by time, unique."""
    return f"r{datetime.now(UTC):%Y%m%dt%H%M%S%f}-{secrets.token_hex(2)}"


def _unfinished(fleet: str) -> str:
    return f"unfinished on {fleet}:"


def _name(rollout_id: str) -> str:
    return f"rollout {rollout_id} in the ledger"


def _durable(connection: Any, record: Any) -> None:
    """SQLite: readers beside the writer, and a committed row survives power loss."""
    del record
    connection.isolation_level = (
        None  # Python's own begins no transaction before the first change, so no fence would hold
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA busy_timeout=10000")


def _begin_writing(connection: Connection) -> None:
    """SQLite: who looks whether a lease is his keeps others from taking it until he has written."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
