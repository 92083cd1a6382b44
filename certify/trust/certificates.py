"""The store of signed certificates, by subject: ``<certificates>/<subject hex>/<envelope hex>.json``, and their log.

Each certificate says which number it has among its signer's about one digest, and which came before it. A certificate
that was deleted leaves a gap; that the last one was is seen by the signer, who remembers how many there are.
"""

from __future__ import annotations

import fcntl
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from securesystemslib.signer import Key

from certify.errors import CertifyError, KeyUnusable
from certify.evidence.certificate import Certificate, Place
from certify.files import read_regular, write_whole
from certify.images.candidate import digest_of, hex_of
from certify.trust.dsse import MAX_ENVELOPE, verify

_FIRST = ""


class _Head(msgspec.Struct, frozen=True):
    """How many certificates a signer has made about one digest, and the last one."""

    number: int
    last: str


class _Heads(msgspec.Struct, frozen=True):
    """What a signer remembers: its log's name, and a head for each digest."""

    log: str
    subjects: dict[str, _Head] = {}


class SignersLog:
    """The signer's memory of what it signed. It lies with the keys: who can write there can sign anyway."""

    def __init__(self, keys: Path) -> None:
        self._path = keys / "runner.log.json"

    @contextmanager
    def next(self, subject: str) -> Iterator[tuple[Place, list[str]]]:
        """The place of the next certificate about ``subject``; its digest goes into the list. Nobody else signs meanwhile."""
        with self._path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            heads = self._read()
            head = heads.subjects.get(subject, _Head(0, _FIRST))
            made: list[str] = []
            yield Place(heads.log, head.number + 1, head.last), made
            for digest in made:
                kept = {**heads.subjects, subject: _Head(head.number + 1, digest)}
                write_whole(self._path, msgspec.json.encode(_Heads(heads.log, kept)), sync=True)

    def head(self, subject: str) -> tuple[str, int] | None:
        """The log's name and how many certificates it has about ``subject``; None where nobody signs."""
        if not self._path.exists():
            return None
        heads = self._read()
        return heads.log, heads.subjects.get(subject, _Head(0, _FIRST)).number

    def _read(self) -> _Heads:
        if not self._path.exists():
            return _Heads(secrets.token_hex(16))
        try:
            return msgspec.json.decode(read_regular(self._path, MAX_ENVELOPE), type=_Heads)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise KeyUnusable(f"{self._path}: unusable log of what was signed ({error})", "restore it") from None


class CertificateStore:
    """Content-addressed; nothing in it is trusted until its signature has been verified."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, subject: str, envelope: bytes) -> str:
        """Keep an envelope about ``subject``. Returns the envelope's digest."""
        digest = digest_of(envelope)
        write_whole(self._file(subject, digest), envelope, sync=True)
        return digest

    def get(self, subject: str, digest: str) -> bytes:
        """The envelope's bytes. Raises OSError."""
        return read_regular(self._file(subject, digest), MAX_ENVELOPE)

    def about(self, subject: str, runner_keys: list[Key]) -> tuple[list[Certificate], list[str]]:
        """Every certificate about ``subject`` that verifies, and a line for each one that does not."""
        good, bad = [], []
        for path in sorted((self._path / hex_of(subject)).glob("*.json")):
            try:
                data = read_regular(path, MAX_ENVELOPE)
                good.append(Certificate(digest_of(data), verify(data, runner_keys, f"certificate {path.name}")))
            except CertifyError as error:
                bad.append(error.message)
            except OSError as error:
                bad.append(f"certificate {path.name}: {error.strerror}")
        return good, bad

    def _file(self, subject: str, digest: str) -> Path:
        return self._path / hex_of(subject) / f"{hex_of(digest)}.json"


def gaps(subject: str, certificates: list[Certificate], signer: SignersLog) -> list[str]:
    """A line for every certificate about ``subject`` that must exist and is not among ``certificates``."""
    logs: dict[str, dict[int, Certificate]] = {}
    for certificate in certificates:
        if certificate.subject == subject:
            logs.setdefault(certificate.place.log, {})[certificate.place.number] = certificate
    mine = signer.head(subject)
    lengths = {log: max(numbered) for log, numbered in logs.items()}
    if mine is not None and mine[1]:
        lengths[mine[0]] = max(mine[1], lengths.get(mine[0], 0))
    missing = []
    for log, length in lengths.items():
        before = _FIRST
        for number in range(1, length + 1):
            found = logs.get(log, {}).get(number)
            if found is None:
                missing.append(f"certificate {number} of {length} is missing")
                before = "?"
            else:
                if before not in ("?", found.place.previous):
                    missing.append(f"certificate {number} of {length} follows another than number {number - 1}")
                before = found.digest
    return missing
