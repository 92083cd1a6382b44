"""The channel repository: TUF metadata (specification 1.0.33) made with python-tuf, in a plain directory.

One delegated role per channel × product; its targets are pointers. What is published is what ``timestamp.json`` leads
to: versioned files are written first and ``timestamp.json`` last, so a process killed at any point has published
either the old state or the new one, and the next publish overwrites what was half done. A lock keeps writers apart.

Whoever writes verifies first what is there (:mod:`certify.trust.published`), and afterwards what it is about to write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
from securesystemslib.exceptions import Error as SslibError
from securesystemslib.signer import Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from certify import locks
from certify.config import Trust
from certify.errors import KeyUnusable, NotVerified, TrustError
from certify.files import read_regular, write_whole
from certify.trust.keys import KeyStore
from certify.trust.pointer import Pointer
from certify.trust.published import MAX_METADATA, Published, prefixed, role_file, role_name, writers_memory
from certify.trust.root import Confirm, nobody
from certify.trust.root import Root as TrustedRoot

VALID = {"root": 365, "targets": 365, "snapshot": 30, "timestamp": 7, "channel": 90}
KEYS_TARGET = "keys.json"
_LOCK_WAIT = 60.0


class ChannelRepository:
    """Writes and lists channels. Reading for use goes through :mod:`certify.trust.verify`, never through here."""

    def __init__(self, trust: Trust, confirm: Confirm = nobody) -> None:
        self.path = Path(trust.repository)
        self._keys = KeyStore(Path(trust.keys))
        self._metadata = self.path / "metadata"
        self._trusted = TrustedRoot(trust, confirm)
        self._memory = writers_memory(Path(trust.writer))

    def create(self) -> bool:
        """Publish the first state, with no channel, and trust its root. False when there is a repository already."""
        with self.locked():
            if (self._metadata / "timestamp.json").exists():
                return False
            self._require_new()
            root, document = self._begun() or self._first_root()
            targets = Targets(expires=_expiry("targets"), delegations=Delegations({}, {}))
            targets.targets[KEYS_TARGET] = self._put_target(KEYS_TARGET, self._trusted_keys())
            made = {"targets.json": self._write_role(root, "targets", targets)}
            snapshot = Snapshot(expires=_expiry("snapshot"), meta=made)
            self._trusted.pin(document)
            self._publish(root, snapshot, 1)
            return True

    def _require_new(self) -> None:
        """Raise TrustError where a repository has been: what is missing of it is not there now, and nothing replaces it."""
        first = self._metadata / "1.root.json"
        if not self._memory.read() and self._trusted.is_first(first):
            return
        raise TrustError(
            f"{self.path}: a channel repository was here and is not whole: it has no timestamp.json",
            "mount it, or restore it from a copy; to begin anew remove it with trust.client and trust.writer",
        )

    def _begun(self) -> tuple[Root, bytes] | None:
        """The root of a creation that did not come to its end; None where none was begun. Raises TrustError for another's."""
        path = self._metadata / "1.root.json"
        if not path.exists():
            return None
        document = read_regular(path, MAX_METADATA)
        try:
            metadata = Metadata[Root].from_bytes(document)
            self._keys.public("root").verify_signature(
                metadata.signatures[self._keys.public("root").keyid], metadata.signed_bytes
            )
        except (RepositoryError, SslibError, KeyError, ValueError) as error:
            raise TrustError(f"{path} is not from here ({error!r})", "restore that repository from a copy") from None
        return metadata.signed, document

    def _first_root(self) -> tuple[Root, bytes]:
        root = Root(expires=_expiry("root"), consistent_snapshot=True)
        for role in ("root", "targets", "snapshot", "timestamp"):
            root.add_key(cast(Any, self._keys.public(role)), role)
        return root, self._write(root, Metadata(root), "root", "1.root.json")

    def read(self) -> Published:
        """What is published, verified for one who signs. Raises NotVerified, TrustError."""
        if not (self._metadata / "timestamp.json").exists():
            raise TrustError(
                f"{self.path}: no channel repository there",
                "cd to the project, or make one with `certify init`; if there was one, restore it",
            )
        return Published(self.path, self._trusted.require(), self._memory)

    def publish(self, pointer: Pointer, published: Published, approver: str = "approver-1") -> None:
        """Put a pointer on its channel: sign, snapshot, timestamp. The caller holds :meth:`locked` since ``published``."""
        snapshot, changed = published.snapshot, dict[str, MetaFile]()
        role = role_name(pointer.channel, pointer.product)
        if role not in published.roles:
            changed["targets.json"] = self._delegate(role, pointer, approver, published)
        targets = published.roles.get(role) or Targets()
        targets.version += role in published.roles
        targets.expires = _expiry("channel")
        targets.targets[pointer.path] = self._put_target(pointer.path, pointer.encode())
        changed[f"{role}.json"] = self._write_role(published.targets, role, targets, approver)
        self._republish(published, snapshot, self._renew(published, changed, approver))

    def refresh(self, approver: str = "approver-1") -> None:
        """Sign everything anew that is past half its life, and always the timestamp. The caller holds :meth:`locked`."""
        published = self.read()
        self._republish(published, published.snapshot, self._renew(published, {}, approver))

    @contextmanager
    def locked(self, waiting: Callable[[str], None] = lambda _: None) -> Iterator[None]:
        """Hold the repository's lock; a dead holder's is free. Raises TrustError after a minute of waiting."""
        self._metadata.mkdir(parents=True, exist_ok=True)
        wait = partial(waiting, "waiting for another promotion to finish")
        try:
            with locks.locked(self.path / ".lock", _LOCK_WAIT, wait):
                yield
        except locks.Busy:
            raise TrustError(f"{self.path}: another process has been writing for a minute", "try again later") from None

    def _delegate(self, role: str, pointer: Pointer, approver: str, published: Published) -> MetaFile:
        """Delegate ``<channel>/<product>/*`` to the channel's role in the top-level targets."""
        targets = published.targets
        delegations = targets.delegations
        if delegations is None or delegations.roles is None:
            raise NotVerified(f"{self.path}: its targets delegate nothing", "restore it from a copy")
        paths = [f"{pointer.channel}/{pointer.product}/*"]
        delegations.roles[role] = DelegatedRole(role, [], 1, terminating=True, paths=paths)
        targets.add_key(cast(Any, self._keys.public(approver)), role)
        targets.version, targets.expires = targets.version + 1, _expiry("targets")
        return self._write_role(published.root, "targets", targets)

    def _renew(self, published: Published, changed: dict[str, MetaFile], approver: str) -> dict[str, MetaFile]:
        """``changed``, and with it every targets role that is past half its life, signed anew with the same contents."""
        renewed = dict(changed)
        for role, targets in published.roles.items():
            kind, key = ("targets", "targets") if role == "targets" else ("channel", approver)
            half = _expiry(kind) - timedelta(days=VALID[kind] / 2)
            if f"{role}.json" not in changed and targets.expires < half:
                targets.version, targets.expires = targets.version + 1, _expiry(kind)
                signer = published.root if role == "targets" else published.targets
                renewed[f"{role}.json"] = self._write_role(signer, role, targets, key)
        return renewed

    def _republish(self, published: Published, snapshot: Snapshot, changed: dict[str, MetaFile]) -> None:
        snapshot.version += 1
        snapshot.meta.update(changed)
        self._publish(published.root, snapshot, published.timestamp.version + 1)

    def _publish(self, root: Root, snapshot: Snapshot, version: int) -> None:
        snapshot.expires = _expiry("snapshot")
        data = self._write(root, Metadata(snapshot), "snapshot", f"{snapshot.version}.snapshot.json")
        meta = MetaFile.from_data(snapshot.version, data, ["sha256"])
        timestamp = Timestamp(version, expires=_expiry("timestamp"), snapshot_meta=meta)
        self._write(root, Metadata(timestamp), "timestamp", "timestamp.json")
        self.read()  # what is there now is what is remembered from now on

    def _write_role(self, signer: Root | Targets, role: str, targets: Targets, key: str = "targets") -> MetaFile:
        """Sign and write a targets role; returns what the snapshot says about it."""
        data = self._write(signer, Metadata(targets), role, f"{targets.version}.{role_file(role)}", key)
        return MetaFile.from_data(targets.version, data, ["sha256"])

    def _write(self, delegator: Root | Targets, metadata: Metadata[Any], role: str, name: str, key: str = "") -> bytes:
        """Sign, check that those who read it will believe it, write. Raises KeyUnusable when they would not."""
        metadata.sign(self._keys.signer(key or role))
        try:
            delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except (RepositoryError, ValueError):
            raise KeyUnusable(
                f"the {key or role} key in {self._keys.path} is not the one that {self.path} trusts for {role}",
                "use the key that it was delegated to",
            ) from None
        data = metadata.to_bytes()
        write_whole(self._metadata / name, data, sync=True)
        return data

    def _put_target(self, path: str, data: bytes) -> TargetFile:
        file = TargetFile.from_data(path, data, ["sha256"])
        write_whole(self.path / "targets" / prefixed(path, file), data, sync=True)
        return file

    def _trusted_keys(self) -> bytes:
        """The keys that deployers believe certificates and decisions of: a target, so signed by the targets role."""
        roles = {role: [_public(self._keys.public(role))] for role in ("runner", "gate", "approver-1")}
        return msgspec.json.encode({"schema": "certify.keys/v1", **roles})


def _public(key: Key) -> dict[str, Any]:
    return {"keyid": key.keyid, **key.to_dict()}


def _expiry(kind: str) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=VALID[kind])
