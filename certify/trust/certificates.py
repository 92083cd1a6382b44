"""The store of signed certificates, by subject: ``<certificates>/<subject hex>/<envelope hex>.json``."""

from __future__ import annotations

from pathlib import Path

from securesystemslib.signer import Key

from certify.errors import CertifyError
from certify.evidence.certificate import Certificate
from certify.images.candidate import digest_of
from certify.trust.dsse import verify


class CertificateStore:
    """Content-addressed; nothing in it is trusted until its signature has been verified."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, subject: str, envelope: bytes) -> str:
        """Keep an envelope about ``subject``. Returns the envelope's digest."""
        digest = digest_of(envelope)
        target = self._file(subject, digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".partial")
        partial.write_bytes(envelope)
        partial.replace(target)
        return digest

    def get(self, subject: str, digest: str) -> bytes:
        """The envelope's bytes. Raises FileNotFoundError."""
        return self._file(subject, digest).read_bytes()

    def about(self, subject: str, runner_keys: list[Key]) -> tuple[list[Certificate], list[str]]:
        """Every certificate about ``subject`` that verifies, and a line for each one that does not."""
        good, bad = [], []
        for path in sorted((self._path / subject.removeprefix("sha256:")).glob("*.json")):
            data = path.read_bytes()
            try:
                good.append(Certificate(digest_of(data), verify(data, runner_keys, f"certificate {path.name}")))
            except CertifyError as error:
                bad.append(error.message)
        return good, bad

    def _file(self, subject: str, digest: str) -> Path:
        return self._path / subject.removeprefix("sha256:") / f"{digest.removeprefix('sha256:')}.json"
