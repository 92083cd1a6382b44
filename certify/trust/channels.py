"""The channel repository: TUF metadata (specification 1.0.33) made with python-tuf, in a plain directory.

One delegated role per channel × product; its targets are pointers. What is published is what ``timestamp.json`` leads
to: versioned files are written first and ``timestamp.json`` last, so a process killed at any point has published
either the old state or the new one, and the next publish overwrites what was half done. A lock keeps writers apart.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from certify.errors import NotVerified, TrustError
from certify.files import write_whole
from certify.trust.keys import KeyStore
from certify.trust.pointer import Pointer, decode

VALID = {"root": 365, "targets": 365, "snapshot": 30, "timestamp": 7, "channel": 90}
KEYS_TARGET = "keys.json"
_LOCK_WAIT = 60.0
T = TypeVar("T", bound=Signed)


class ChannelRepository:
    """Writes and lists channels. Reading for use goes through :mod:`certify.trust.verify`, never through here."""

    def __init__(self, path: Path, keys: KeyStore) -> None:
        self.path = path
        self._keys = keys
        self._metadata = path / "metadata"

    def create(self) -> bool:
        """Publish the first state, with no channel. False when there is a repository already."""
        with self.locked():
            if (self._metadata / "timestamp.json").exists():
                return False
            root = Root(expires=_expiry("root"), consistent_snapshot=True)
            for role in ("root", "targets", "snapshot", "timestamp"):
                root.add_key(cast(Any, self._keys.public(role)), role)
            self._write(Metadata(root), "root", "1.root.json")
            targets = Targets(expires=_expiry("targets"), delegations=Delegations({}, {}))
            targets.targets[KEYS_TARGET] = self._put_target(KEYS_TARGET, self._trusted_keys())
            self._write(Metadata(targets), "targets", "1.targets.json")
            self._publish(Snapshot(expires=_expiry("snapshot")), {"targets.json": 1}, 1)
            return True

    def publish(self, pointer: Pointer, approver: str = "approver-1") -> None:
        """Put a pointer on its channel: sign, snapshot, timestamp. The caller holds :meth:`locked`."""
        snapshot, changed = self._snapshot(), dict[str, int]()
        role = _role(pointer.channel, pointer.product)
        if f"{role}.json" not in snapshot.meta:
            changed["targets.json"] = self._delegate(role, pointer, approver, snapshot.meta["targets.json"].version)
        version = snapshot.meta[f"{role}.json"].version if f"{role}.json" in snapshot.meta else 0
        targets = self._load(f"{version}.{role}.json", Targets) if version else Targets()
        targets.version, targets.expires = version + 1, _expiry("channel")
        targets.targets[pointer.path] = self._put_target(pointer.path, pointer.encode())
        self._write(Metadata(targets), approver, f"{targets.version}.{role}.json")
        changed[f"{role}.json"] = targets.version
        self._publish(snapshot, self._renew(snapshot, changed, approver))

    def refresh(self, approver: str = "approver-1") -> None:
        """Sign everything anew that is past half its life, and always the timestamp. The caller holds :meth:`locked`."""
        snapshot = self._snapshot()
        self._publish(snapshot, self._renew(snapshot, {}, approver))

    def pointers(self) -> list[Pointer]:
        """Every published pointer, unverified: for listing and for the next serial."""
        found = []
        for name, meta in self._snapshot().meta.items():
            if name != "targets.json":
                targets = self._load(f"{meta.version}.{name}", Targets)
                for path, file in targets.targets.items():
                    found.append(decode(self._read(self.path / "targets" / _prefixed(path, file))))
        return sorted(found, key=lambda pointer: pointer.path)

    def expires(self) -> datetime:
        """When the published timestamp expires and with it everything."""
        return self._load("timestamp.json", Timestamp).expires

    @contextmanager
    def locked(self, waiting: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Hold the repository's lock; a dead holder's is free. Raises TrustError after a minute of waiting."""
        self._metadata.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("a+") as file:
            deadline = time.monotonic() + _LOCK_WAIT
            while not _try_lock(file.fileno()):
                if time.monotonic() > deadline:
                    raise TrustError(f"{self.path}: another process has been writing for a minute", "try again later")
                waiting("waiting for another promotion to finish")
                time.sleep(0.1)
            yield

    def _delegate(self, role: str, pointer: Pointer, approver: str, version: int) -> int:
        """Delegate ``<channel>/<product>/*`` to the channel's role in the top-level targets; returns their version."""
        targets = self._load(f"{version}.targets.json", Targets)
        delegations = targets.delegations
        assert delegations is not None
        assert delegations.roles is not None
        paths = [f"{pointer.channel}/{pointer.product}/*"]
        delegations.roles[role] = DelegatedRole(role, [], 1, terminating=True, paths=paths)
        targets.add_key(cast(Any, self._keys.public(approver)), role)
        targets.version, targets.expires = version + 1, _expiry("targets")
        self._write(Metadata(targets), "targets", f"{targets.version}.targets.json")
        return targets.version

    def _renew(self, snapshot: Snapshot, changed: dict[str, int], approver: str) -> dict[str, int]:
        """``changed``, and with it every targets role that is past half its life, signed anew with the same contents."""
        renewed = dict(changed)
        for name, meta in snapshot.meta.items():
            kind, signer = ("targets", "targets") if name == "targets.json" else ("channel", approver)
            targets = None if name in changed else self._load(f"{meta.version}.{name}", Targets)
            if targets is not None and targets.expires < _expiry(kind) - timedelta(days=VALID[kind] / 2):
                targets.version, targets.expires = meta.version + 1, _expiry(kind)
                self._write(Metadata(targets), signer, f"{targets.version}.{name}")
                renewed[name] = targets.version
        return renewed

    def _publish(self, snapshot: Snapshot, changed: dict[str, int], timestamp_version: int | None = None) -> None:
        if timestamp_version is None:
            snapshot.version += 1
            timestamp_version = self._load("timestamp.json", Timestamp).version + 1
        snapshot.expires = _expiry("snapshot")
        for name, version in changed.items():
            snapshot.meta[name] = MetaFile(version)
        self._write(Metadata(snapshot), "snapshot", f"{snapshot.version}.snapshot.json")
        timestamp = Timestamp(timestamp_version, expires=_expiry("timestamp"), snapshot_meta=MetaFile(snapshot.version))
        self._write(Metadata(timestamp), "timestamp", "timestamp.json")

    def _snapshot(self) -> Snapshot:
        if not (self._metadata / "timestamp.json").exists():
            raise TrustError(f"{self.path}: no channel repository there", "make one with `certify init`")
        version = self._load("timestamp.json", Timestamp).snapshot_meta.version
        return self._load(f"{version}.snapshot.json", Snapshot)

    def _load(self, name: str, kind: type[T]) -> T:
        try:
            document: Metadata[Any] = Metadata.from_bytes(self._read(self._metadata / name))
        except RepositoryError as error:
            raise NotVerified(f"{self._metadata / name}: {error}", "restore the repository from a copy") from None
        if not isinstance(document.signed, kind):
            raise NotVerified(f"{self._metadata / name}: not {kind.__name__} metadata", "restore it from a copy")
        return document.signed

    def _write(self, metadata: Metadata[Any], role: str, name: str) -> None:
        metadata.sign(self._keys.signer(role))
        write_whole(self._metadata / name, metadata.to_bytes(), sync=True)

    def _put_target(self, path: str, data: bytes) -> TargetFile:
        file = TargetFile.from_data(path, data, ["sha256"])
        write_whole(self.path / "targets" / _prefixed(path, file), data, sync=True)
        return file

    def _trusted_keys(self) -> bytes:
        """The keys that deployers believe certificates and decisions of: a target, so signed by the targets role."""
        roles = {role: [_public(self._keys.public(role))] for role in ("runner", "gate")}
        return msgspec.json.encode({"schema": "certify.keys/v1", **roles})

    @staticmethod
    def _read(path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise TrustError(
                f"{path}: {error.strerror}", "restore the repository, or make one with `certify init`"
            ) from None


def _role(channel: str, product: str) -> str:
    return f"{channel}-{product}"


def _public(key: Key) -> dict[str, Any]:
    return {"keyid": key.keyid, **key.to_dict()}


def _prefixed(path: str, file: TargetFile) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/{file.hashes['sha256']}.{name}".lstrip("/")


def _expiry(kind: str) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=VALID[kind])


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
