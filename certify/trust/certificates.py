"""The store of signed certificates, by subject: ``<certificates>/<subject hex>/<envelope hex>.json``, and their log.

Each certificate says which number it has among its signer's about one digest, and which came before it. A certificate
that was deleted leaves a gap; that the last one was is seen by the signer, who remembers how many there are.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec
from securesystemslib.signer import Key

from certify.errors import CertifyError
from certify.evidence.certificate import Certificate, Place
from certify.files import read_regular, write_whole
from certify.images.candidate import digest_of, hex_of
from certify.trust.dsse import MAX_ENVELOPE, verify
from certify.trust.memory import Remembered

_FIRST = ""


class _Head(msgspec.Struct, frozen=True):
    """How many certificates a signer has made about one digest for one product, and the last one."""

    number: int
    last: str


class _Pending(msgspec.Struct, frozen=True):
    """A certificate that is signed and perhaps not stored yet."""

    subject: str
    envelope: str


class _Heads(msgspec.Struct, frozen=True):
    """What a signer remembers: its log's name, and a head for each product and digest."""

    log: str
    subjects: dict[str, _Head] = {}
    pending: _Pending | None = None


class SignersLog:
    """The signer's memory of what it signed. It lies with the keys: who can write there can sign anyway."""

    def __init__(self, keys: Path) -> None:
        self._path = keys / "runner.log.json"
        self._heads = Remembered(self._path, _Heads, _Heads(secrets.token_hex(16)))

    def add(self, subject: str, product: str, store: CertificateStore, make: Callable[[Place], bytes]) -> bytes:
        """``make`` the next certificate about ``subject`` at its place among those of ``product``, and put it into ``store``.
        Returns the envelope.

        It is remembered before it is stored: one that a kill kept from the store is put there by whoever signs next.
        """
        with self._heads.mine():
            heads = self._heads.read()
            if heads.pending is not None:
                store.put(heads.pending.subject, heads.pending.envelope.encode())
            name = _name(subject, product)
            head = heads.subjects.get(name, _Head(0, _FIRST))
            envelope = make(Place(heads.log, head.number + 1, head.last))
            kept = {**heads.subjects, name: _Head(head.number + 1, digest_of(envelope))}
            self._heads.keep(_Heads(heads.log, kept, _Pending(subject, envelope.decode())))
            store.put(subject, envelope)
            self._heads.keep(_Heads(heads.log, kept))
            return envelope

    def head(self, subject: str, product: str) -> tuple[str, int] | None:
        """The log's name and how many certificates it has about ``subject``; None where nobody signs."""
        if not self._path.exists():
            return None
        heads = self._heads.read()
        return heads.log, heads.subjects.get(_name(subject, product), _Head(0, _FIRST)).number


def _name(subject: str, product: str) -> str:
    """What a head is remembered by: products have certificates of their own about one digest."""
    return f"{product} {subject}"


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


def gaps(subject: str, product: str, certificates: list[Certificate], signer: SignersLog) -> list[str]:
    """A line for every certificate about ``subject`` of ``product`` that must exist and is not among ``certificates``."""
    logs: dict[str, dict[int, Certificate]] = {}
    missing = []
    for certificate in certificates:
        if (certificate.subject, certificate.product) == (subject, product):
            other = logs.setdefault(certificate.place.log, {}).setdefault(certificate.place.number, certificate)
            if other is not certificate:
                missing.append(f"two certificates are number {certificate.place.number}")
    mine = signer.head(subject, product)
    lengths = {log: max(numbered) for log, numbered in logs.items()}
    if mine is not None and mine[1]:
        lengths[mine[0]] = max(mine[1], lengths.get(mine[0], 0))
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
