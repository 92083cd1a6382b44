"""The store of signed certificates, by subject: ``<certificates>/<subject hex>/<envelope hex>.json``."""

from __future__ import annotations

from pathlib import Path

from securesystemslib.signer import Key

from certify.errors import CertifyError
from certify.evidence.certificate import Certificate
from certify.files import write_whole
from certify.images.candidate import digest_of, hex_of
from certify.trust.dsse import verify


class CertificateStore:
    """Content-addressed; nothing in it is trusted until its signature has been verified."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, subject: str, envelope: bytes) -> str:
        """Keep an envelope about ``subject``. Returns the envelope's digest."""
        digest = digest_of(envelope)
        write_whole(self._file(subject, digest), envelope)
        return digest

    def get(self, subject: str, digest: str) -> bytes:
        """The envelope's bytes. Raises FileNotFoundError."""
        return self._file(subject, digest).read_bytes()

    def about(self, subject: str, runner_keys: list[Key]) -> tuple[list[Certificate], list[str]]:
        """Every certificate about ``subject`` that verifies, and a line for each one that does not."""
        good, bad = [], []
        for path in sorted((self._path / hex_of(subject)).glob("*.json")):
            data = path.read_bytes()
            try:
                good.append(Certificate(digest_of(data), verify(data, runner_keys, f"certificate {path.name}")))
            except CertifyError as error:
                bad.append(error.message)
        return good, bad

    def _file(self, subject: str, digest: str) -> Path:
        return self._path / hex_of(subject) / f"{hex_of(digest)}.json"
