"""The one verifier: the CLI, the gate's ``after`` rule and the deployer all ask here.

What a channel says is taken through ``tuf.ngclient`` only (signatures, thresholds, expiry, rollback), starting from a
root that was given or pinned on first use; then the pointer's own validity, and every certificate it names, are checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import msgspec
from securesystemslib.signer import Key, SSlibKey
from tuf.api.exceptions import DownloadError, DownloadHTTPError, ExpiredMetadataError, RepositoryError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from certify.config import Config
from certify.errors import EvidenceError, NotVerified, TrustError
from certify.evidence.certificate import Certificate
from certify.images.candidate import Candidate, digest_of, hex_of
from certify.trust.channels import KEYS_TARGET
from certify.trust.dsse import verify as verify_envelope
from certify.trust.pointer import Pointer, decode, target_path


@dataclass(frozen=True)
class Verified:
    """A digest a deployer may use, and why."""

    pointer: Pointer
    certificates: tuple[Certificate, ...]


class Verifier:
    """A client of one channel repository. Makes one consistent view of it when first asked."""

    def __init__(self, config: Config, now: datetime | None = None) -> None:
        self._config = config
        self._now = now or datetime.now(UTC)
        self._repository = Path(config.trust.repository).absolute()
        self._updater: Updater | None = None

    def channel(self, channel: str, arch: str) -> Verified:
        """What stands on a channel for ``arch``, with everything it rests on verified. Raises NotVerified."""
        path = target_path(channel, self._config.product, arch)
        data = self._target(path)
        if data is None:
            raise NotVerified(
                f"nothing stands on {channel} for {self._config.product} ({arch})",
                f"promote an image: certify promote REF --to {channel}",
            )
        pointer = decode(data)
        if (pointer.channel, pointer.product, pointer.arch) != (channel, self._config.product, arch):
            raise NotVerified(f"{path}: the pointer is about {pointer.path}", "the repository mixes products; lint it")
        pointer.require_current(self._now)
        keys = self._runner_keys()
        certificates = tuple(self._certificate(digest, pointer, keys) for digest in pointer.certificates)
        if not certificates:
            raise NotVerified(f"{path}: the pointer names no certificate", "promote the image again")
        return Verified(pointer, certificates)

    def candidate(self, candidate: Candidate, channel: str) -> Verified:
        """As :meth:`channel`, and the digest standing there is exactly the candidate's. Raises NotVerified."""
        verified = self.channel(channel, candidate.architecture)
        if verified.pointer.digest != candidate.digest:
            raise NotVerified(
                f"{candidate.reference} is {candidate.digest}, but {channel} holds {verified.pointer.digest}",
                f"promote it, or deploy what stands there: {verified.pointer.resource_uri}",
            )
        return verified

    def stands_on(self, candidate: Candidate, channel: str) -> bool:
        """Whether the candidate's digest stands on the channel now."""
        try:
            self.candidate(candidate, channel)
            return True
        except TrustError:
            return False

    def _certificate(self, digest: str, pointer: Pointer, keys: list[Key]) -> Certificate:
        path = self._repository / "certificates" / f"{hex_of(digest)}.json"
        what = f"certificate {digest}"
        try:
            data = path.read_bytes()
        except OSError as error:
            raise NotVerified(f"{what}: {error.strerror}", "promote the image again") from None
        if digest_of(data) != digest:
            raise NotVerified(f"{what}: its bytes were changed", "promote the image again")
        try:
            certificate = Certificate(digest, verify_envelope(data, keys, what))
        except EvidenceError as error:
            raise NotVerified(error.message, error.hint) from None
        if pointer.digest not in certificate.subjects or certificate.product != pointer.product:
            raise NotVerified(f"{what} is about another image or product", "promote the image again")
        return certificate

    def _runner_keys(self) -> list[Key]:
        data = self._target(KEYS_TARGET)
        if data is None:
            raise NotVerified("the repository publishes no trusted keys", "make a repository with `certify init`")
        document = msgspec.json.decode(data, type=dict[str, Any])
        return [SSlibKey.from_dict(str(item.pop("keyid")), item) for item in document["runner"]]

    def _target(self, path: str) -> bytes | None:
        """A target's bytes through the TUF client workflow (specification, section 5). Raises NotVerified."""
        try:
            updater = self._client()
            info = updater.get_targetinfo(path)
            return Path(updater.download_target(info)).read_bytes() if info else None
        except ExpiredMetadataError as error:
            raise NotVerified(
                f"the channel metadata has expired: {error}", "refresh it: certify channels --refresh"
            ) from None
        except DownloadError as error:
            raise NotVerified(f"the channel repository cannot be read: {error}", "restore it from a copy") from None
        except (RepositoryError, ValueError) as error:
            raise NotVerified(f"the channel metadata does not verify: {error}", "it was changed; restore it") from None
        except OSError as error:
            raise TrustError(f"cannot keep what the channel client learnt: {error}", "see trust.client") from None

    def _client(self) -> Updater:
        if self._updater is None:
            client = Path(self._config.trust.client).absolute()
            (client / "targets").mkdir(parents=True, exist_ok=True)
            known = (client / "root.json").exists()
            first = Path(self._config.trust.root or self._repository / "metadata" / "1.root.json")
            if not known and not first.exists():
                raise NotVerified(f"{first}: no channel repository there", "make one with `certify init`")
            self._updater = Updater(
                metadata_dir=str(client),
                metadata_base_url=(self._repository / "metadata").as_uri(),
                target_dir=str(client / "targets"),
                target_base_url=(self._repository / "targets").as_uri(),
                fetcher=FileFetcher(),
                bootstrap=None if known else first.read_bytes(),
            )
        return self._updater


class FileFetcher(FetcherInterface):
    """Reads ``file:`` URLs: the repository is a directory here, or a mounted share."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(unquote(urlparse(url).path))
        if not path.is_file():
            raise DownloadHTTPError(f"{path}: no such file", 404)
        return iter([path.read_bytes()])
