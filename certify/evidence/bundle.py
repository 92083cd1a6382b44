"""The evidence directory of one run: written as the run goes, so that a killed run leaves what it had and says so.

``run.json`` is there from the first moment with ``status: running`` and the owner's name; each outcome is appended to
``outcomes.jsonl`` when it is known, chained to the one before by its digest; the end writes the whole ``run.json``,
``junit.xml`` and ``manifest.json``.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from certify.errors import EvidenceError, UsageError
from certify.evidence.run import Check, Run, complete
from certify.files import read_regular, write_whole

MANIFEST_SCHEMA = "certify.manifest/v1"
_NOT_IN_MANIFEST = re.compile(r"manifest\.json|seal\.dsse\.json|certificate(-\d+)?\.dsse\.json")
_MAX_DOCUMENT = 256 * 1024 * 1024
#: What the first outcome of a run is chained to.
CHAIN_START = "0" * 64
#: Folders and files that Python, certify, pytest, git and editors make beside what people write: no part of a suite.
_LEFT_BEHIND = frozenset(
    {
        "__pycache__",
        ".certify",
        ".git",
        ".pytest_cache",
        ".mypy_cache",
        ".ruff_cache",
        ".hypothesis",
        ".idea",
        ".vscode",
    }
)
_EDITORS_LOCK = ".#"


class _Entry(msgspec.Struct, frozen=True):
    """One line of outcomes.jsonl."""

    previous: str
    check: Check


class Bundle:
    """One run's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._journal_file: FileIO | None = None
        self.head = CHAIN_START

    @classmethod
    def create(cls, path: Path, run: Run) -> Bundle:
        """Make the directory and write what is known at the start. Raises EvidenceError."""
        bundle = cls(path)
        with _explained(path):
            path.mkdir(parents=True, exist_ok=True)
        bundle.write_run(run)
        return bundle

    def write_run(self, run: Run) -> None:
        """Replace run.json in one step."""
        self.write("run.json", msgspec.json.format(msgspec.json.encode(run), indent=2))

    def append(self, check: Check) -> None:
        """Keep one outcome at once: it is in the file when this returns, whatever happens to the process."""
        with _explained(self.path):
            if self._journal_file is None:
                self._journal_file = (self.path / "outcomes.jsonl").open("xb", buffering=0)
            line = msgspec.json.encode({"previous": self.head, "check": check})
            self._journal_file.write(line + b"\n")
            self.head = hashlib.sha256(line).hexdigest()

    def close(self) -> None:
        """No more outcomes will come."""
        if self._journal_file is not None:
            self._journal_file.close()
            self._journal_file = None

    def write(self, name: str, data: bytes) -> None:
        """Write one file below the directory, whole or not at all."""
        target = self.path / name
        with _explained(target):
            write_whole(target, data)

    def write_manifest(self) -> str:
        """List every file's sha256 and size in manifest.json. Returns the manifest's own digest."""
        with _explained(self.path):
            files = {name: _entry(self.path / name) for name in self._files()}
        document = msgspec.json.encode({"schema": MANIFEST_SCHEMA, "files": files}, order="sorted")
        self.write("manifest.json", document)
        return "sha256:" + hashlib.sha256(document).hexdigest()

    def check_manifest(self, known: Mapping[str, bytes] = MappingProxyType({})) -> str:
        """Compare every file with the manifest, those of ``known`` by the bytes given. Returns the manifest's digest.

        Raises EvidenceError.
        """
        document = self._read("manifest.json")
        try:
            listed = msgspec.json.decode(document, type=dict[str, Any])["files"]
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
            raise EvidenceError(f"{self.path}/manifest.json is malformed", "run the suites again") from None
        present = set(self._files())
        for name in sorted(present | set(listed)):
            if name not in listed:
                raise EvidenceError(
                    f"{self.path}/{name} was added after the run", "evidence is never edited; run again"
                )
            found = _entry_of(known[name]) if name in known else _entry(self.path / name) if name in present else None
            if found != listed[name]:
                raise EvidenceError(
                    f"{self.path}/{name} was changed after the run", "evidence is never edited; run again"
                )
        return "sha256:" + hashlib.sha256(document).hexdigest()

    def sealed_run(self) -> tuple[Run, str]:
        """run.json and the manifest's digest, every file being what the manifest lists: the bytes that are compared are those
        that are read. Raises EvidenceError."""
        data = self._read("run.json")
        digest = self.check_manifest({"run.json": data})
        return self._parsed(data), digest

    def read_run(self) -> Run:
        """run.json; of a run that did not finish, with the outcomes it had. Raises EvidenceError."""
        return self._parsed(self._read("run.json"))

    def _parsed(self, data: bytes) -> Run:
        try:
            run = msgspec.json.decode(data, type=Run)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise EvidenceError(f"{self.path}/run.json: {error}", "it was damaged; run the suites again") from None
        if run.status == "finished":
            return run
        return msgspec.structs.replace(run, checks=tuple(complete(run.planned, self.outcomes()[0])))

    def outcomes(self) -> tuple[list[Check], str]:
        """What was appended, as far as each line follows the one before, and the digest of the last good line."""
        path = self.path / "outcomes.jsonl"
        lines = self._read("outcomes.jsonl").splitlines() if path.exists() else []
        found, head = [], CHAIN_START
        for line in lines:
            try:
                entry = msgspec.json.decode(line, type=_Entry)
            except (msgspec.DecodeError, UnicodeDecodeError):
                break  # the line that was being written when the run was killed
            if entry.previous != head:
                break
            found.append(entry.check)
            head = hashlib.sha256(line).hexdigest()
        return found, head

    def _files(self) -> list[str]:
        names = (path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file())
        return sorted(name for name in names if not _NOT_IN_MANIFEST.fullmatch(name))

    def _read(self, name: str) -> bytes:
        try:
            return read_regular(self.path / name, _MAX_DOCUMENT)
        except OSError as error:
            raise EvidenceError(f"{self.path / name}: {error.strerror}", "name a run's evidence directory") from None


class _explained:
    """Turn a failed write into one clear line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise EvidenceError(
                f"cannot keep evidence in {self._path}: {error.strerror or error}",
                "make room or name another place with --evidence DIR",
            ) from None


def _entry(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest(), "size": path.stat().st_size}


def _entry_of(data: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def directory_digest(path: Path, keep: Callable[[str], bool] = lambda _: True) -> str:
    """One digest over a folder's files: names and contents, in a fixed order. ``keep`` chooses by relative name.

    Only what Python and tools leave behind is left out (:func:`left_out`); a ``.pyc`` elsewhere is code like any other. Raises
    UsageError for what is no plain file: a pipe, a link to a folder or to nothing.
    """
    hasher = hashlib.sha256()
    for root, folders, names in os.walk(path):
        folders[:] = sorted(folder for folder in folders if folder not in _LEFT_BEHIND)
        links = [folder for folder in folders if Path(root, folder).is_symlink()]
        if links:
            raise UsageError(f"{Path(root, links[0])} is a link to a folder, whose files nothing pins", "copy it there")
        for name in sorted(names):
            file = Path(root, name)
            relative = file.relative_to(path).as_posix()
            if keep(relative) and not name.startswith(_EDITORS_LOCK):
                hasher.update(
                    f"{relative}\0{hashlib.sha256(_plain(file)).hexdigest()}\n".encode("utf-8", "surrogateescape")
                )
    return "sha256:" + hasher.hexdigest()


def left_out(relative: Path) -> bool:
    """Whether :func:`directory_digest` leaves a file out."""
    return not _LEFT_BEHIND.isdisjoint(relative.parts[:-1]) or relative.name.startswith(_EDITORS_LOCK)


def _plain(file: Path) -> bytes:
    try:
        return read_regular(file, _MAX_DOCUMENT)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}", "suites hold plain files") from None
