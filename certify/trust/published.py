"""What a channel repository publishes, verified for one who is about to sign on top of it.

TUF's client workflow (specification 1.0.33, section 5) without its expiry: whoever renews must be able to read what has
expired. Everything else is checked: signatures and thresholds from the trusted root down, versions against what this writer
has seen before, every metadata file against the hash that names it. What went back, was edited or is not delegated is
refused: nobody signs what they did not verify.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from msgspec import Struct
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp

from certify.errors import NotVerified
from certify.files import read_regular
from certify.images.candidate import digest_of
from certify.trust.memory import Remembered
from certify.trust.pointer import Pointer, decode

MAX_METADATA = 16 * 1024 * 1024
_MAX_ROOTS = 256
T = TypeVar("T", bound=Signed)


class Seen(Struct, frozen=True):
    """A version that was seen, and the digest of the file that had it."""

    version: int
    digest: str


def writers_memory(folder: Path) -> Remembered[dict[str, Seen]]:
    """The versions that a writer has seen, by role, in its own folder."""
    return Remembered(folder / "seen.json", dict[str, Seen], {})


class Published:
    """One consistent, verified state of a repository."""

    def __init__(self, repository: Path, root: bytes, memory: Remembered[dict[str, Seen]]) -> None:
        self._repository = repository
        self._before = memory.read()
        self.seen: dict[str, Seen] = {}
        self.root = self._roots(root)
        self.timestamp = self._file("timestamp", "timestamp.json", Timestamp, self.root)
        named = self.timestamp.snapshot_meta
        self.snapshot = self._file("snapshot", f"{named.version}.snapshot.json", Snapshot, self.root, named)
        self.roles: dict[str, Targets] = {}
        self._load_roles()
        gone = sorted(self._before.keys() - self.seen.keys())
        if gone:
            raise self._refused(f"the role {gone[0]}, which was there before, is gone")
        memory.update(self._and_what_was_seen_since)

    def _and_what_was_seen_since(self, known: dict[str, Seen]) -> dict[str, Seen]:
        """What this state shows, but never less than another process has seen meanwhile."""
        newer = {role: seen for role, seen in known.items() if seen.version > self.seen.get(role, seen).version}
        return {**known, **self.seen, **newer}

    @property
    def targets(self) -> Targets:
        """The top-level targets: delegations and the trusted keys."""
        return self.roles["targets"]

    def pointers(self) -> Iterator[Pointer]:
        """Every pointer that stands anywhere, its bytes compared with the hash that its role signed."""
        for role, targets in self.roles.items():
            for path, file in targets.targets.items() if role != "targets" else ():
                yield decode(self.target(path, file))

    def target(self, path: str, file: TargetFile) -> bytes:
        """A target's bytes. Raises NotVerified when they are others."""
        data = self._read(self._repository / "targets" / prefixed(path, file))
        try:
            file.verify_length_and_hashes(data)
        except RepositoryError as error:
            raise self._refused(f"{path}: {error}") from None
        return data

    def _roots(self, trusted: bytes) -> Root:
        """From the trusted root to the newest, each signed by the one before and by itself (section 5.3)."""
        root: Root = self._parsed(trusted, "the trusted root", Root).signed
        for version in range(root.version + 1, root.version + _MAX_ROOTS):
            path = self._repository / "metadata" / f"{version}.root.json"
            if not path.exists():
                break
            newer = self._parsed(self._read(path), path.name, Root)
            for signer in (root, newer.signed):
                self._require_signed(signer, "root", newer, path.name)
            if newer.signed.version != version:
                raise self._refused(f"{path.name} has version {newer.signed.version}")
            root, trusted = newer.signed, self._read(path)
        self._remember("root", f"{root.version}.root.json", root.version, digest_of(trusted))
        return root

    def _load_roles(self) -> None:
        names = {name.removesuffix(".json"): meta for name, meta in self.snapshot.meta.items()}
        if "targets" not in names:
            raise self._refused("the snapshot names no targets")
        for role in ("targets", *sorted(names.keys() - {"targets"})):
            signer = self.root if role == "targets" else self.roles["targets"]
            meta, name = names[role], role_file(role)
            self.roles[role] = self._file(role, f"{meta.version}.{name}", Targets, signer, meta)

    def _file(self, role: str, name: str, kind: type[T], signer: Root | Targets, meta: MetaFile | None = None) -> T:
        data = self._read(self._repository / "metadata" / name)
        metadata = self._parsed(data, name, kind)
        self._require_signed(signer, role, metadata, name)
        if meta is not None:
            try:
                meta.verify_length_and_hashes(data)
            except RepositoryError as error:
                raise self._refused(f"{name}: {error}") from None
            if metadata.signed.version != meta.version:
                raise self._refused(f"{name} has version {metadata.signed.version}")
        signed: T = metadata.signed
        self._remember(role, name, signed.version, digest_of(data))
        return signed

    def _remember(self, role: str, name: str, version: int, digest: str) -> None:
        before = self._before.get(role)
        if before is not None and version < before.version:
            raise self._refused(f"{name} went back from version {before.version} to {version}")
        if before is not None and version == before.version and digest != before.digest:
            raise self._refused(f"{name} has version {version} as before, with other bytes")
        self.seen[role] = Seen(version, digest)

    def _require_signed(self, signer: Root | Targets, role: str, metadata: Metadata[Any], name: str) -> None:
        try:
            signer.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except (RepositoryError, ValueError) as error:
            raise self._refused(f"{name}: {error}") from None

    def _parsed(self, data: bytes, name: str, kind: type[T]) -> Metadata[Any]:
        try:
            document: Metadata[Any] = Metadata.from_bytes(data)
        except (RepositoryError, ValueError, RecursionError) as error:
            raise self._refused(f"{name}: {error}") from None
        if not isinstance(document.signed, kind):
            raise self._refused(f"{name} is no {kind.__name__} metadata")
        return document

    def _read(self, path: Path) -> bytes:
        try:
            return read_regular(path, MAX_METADATA)
        except FileNotFoundError:
            raise NotVerified(
                f"{path}: no such file in the channel repository", "restore it, or `certify init`"
            ) from None
        except OSError as error:
            raise NotVerified(f"{path}: {error.strerror}", "restore the channel repository from a copy") from None

    def _refused(self, reason: str) -> NotVerified:
        return NotVerified(
            f"{self._repository}: {reason}", "somebody else changed the channel repository: restore it from a copy"
        )


def role_name(channel: str, product: str) -> str:
    """A channel's role for one product. ``~`` is in no name, so two roles are never one."""
    return f"{channel}~{product}"


def role_file(role: str) -> str:
    """The metadata file of a targets role, as TUF clients ask for it."""
    return f"{quote(role, '')}.json"


def prefixed(path: str, file: TargetFile) -> str:
    """Where a target lies: its hash before its name (consistent snapshots)."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{file.hashes['sha256']}.{name}".lstrip("/")
