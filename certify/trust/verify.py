"""The one verifier: the CLI, the gate's ``after`` rule and the deployer all ask here.

What a channel says is taken through ``tuf.ngclient`` only (signatures, thresholds, expiry, rollback), starting from the
trusted root (:mod:`certify.trust.root`). Then everything that the pointer names is checked: its own validity and serial, the
decision it rests on, by the gate key, and each certificate of that decision, by a runner key.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import msgspec
from securesystemslib.exceptions import Error as SslibError
from securesystemslib.signer import Key, SSlibKey
from tuf.api.exceptions import DownloadError, DownloadHTTPError, ExpiredMetadataError, RepositoryError
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

from certify.config import Config
from certify.errors import EvidenceError, NotVerified, TrustError
from certify.evidence.certificate import Certificate
from certify.files import read_regular
from certify.images.candidate import Candidate, digest_of, hex_of
from certify.locks import locked
from certify.trust.channels import KEYS_TARGET
from certify.trust.dsse import MAX_ENVELOPE
from certify.trust.dsse import verify as verify_envelope
from certify.trust.memory import VerifiersMemory
from certify.trust.pointer import Pointer, decode, target_path
from certify.trust.published import MAX_METADATA
from certify.trust.root import Confirm, Root, nobody
from certify.trust.summary import require_summary


@dataclass(frozen=True)
class Verified:
    """A digest a deployer may use, and why."""

    pointer: Pointer
    certificates: tuple[Certificate, ...]


class Verifier:
    """A client of one channel repository. Makes one consistent view of it when first asked."""

    def __init__(
        self, config: Config, now: datetime | None = None, confirm: Confirm = nobody, *, remembers: bool = True
    ) -> None:
        """``remembers``: not when asked about another time than now, which must leave no trace."""
        self._config = config
        self._remembers = remembers
        self._now = now or datetime.now(UTC)
        self._repository = Path(config.trust.repository).absolute()
        self._root = Root(config.trust, confirm)
        self._remembered = VerifiersMemory(Path(config.trust.client))
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
        certificates = self._certificates(pointer)
        if self._remembers:
            self._remembered.accept(pointer, self._now)
        return Verified(pointer, certificates)

    def candidate(self, candidate: Candidate, channel: str) -> Verified:
        """As :meth:`channel`, and the digests standing there are exactly the candidate's. Raises NotVerified."""
        verified = self.channel(channel, candidate.architecture)
        pointer = verified.pointer
        if (pointer.digest, pointer.config_digest) != (candidate.digest, candidate.config_digest):
            raise NotVerified(
                f"{candidate.reference} is {candidate.digest}, but {channel} holds {pointer.digest}",
                f"promote it, or deploy what stands there: {pointer.resource_uri}",
            )
        return verified

    def stands_on(self, candidate: Candidate, channel: str) -> bool:
        """Whether the candidate's digest stands on the channel now."""
        try:
            self.candidate(candidate, channel)
            return True
        except TrustError:
            return False

    def keys(self, role: str) -> list[Key]:
        """The keys that the repository trusts for ``runner`` or ``gate``. Raises NotVerified."""
        data = self._target(KEYS_TARGET)
        if data is None:
            raise NotVerified("the repository publishes no trusted keys", "make a repository with `certify init`")
        try:
            document = msgspec.json.decode(data, type=dict[str, Any])
            return [SSlibKey.from_dict(str(item.pop("keyid")), item) for item in document[role]]
        except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError, SslibError) as error:
            raise NotVerified(
                f"the published trusted keys are malformed ({error!r})", "restore the repository"
            ) from None

    def _certificates(self, pointer: Pointer) -> tuple[Certificate, ...]:
        """The certificates that the pointer names, all of them and nothing else what its decision rests on."""
        decision = verify_envelope(self._evidence(pointer.decision), self.keys("gate"), f"decision {pointer.decision}")
        warned = require_summary(decision, pointer)
        runners = self.keys("runner")
        certificates = tuple(self._certificate(digest, pointer, runners) for digest in pointer.certificates)
        if not certificates:
            raise NotVerified(f"{pointer.path}: the pointer names no certificate", "promote the image again")
        for certificate in certificates:
            if certificate.result != "PASSED" and not (certificate.result == "WARNED" and warned):
                raise NotVerified(
                    f"certificate {certificate.digest} is {certificate.result}, not PASSED", "promote the image again"
                )
        return certificates

    def _certificate(self, digest: str, pointer: Pointer, keys: list[Key]) -> Certificate:
        what = f"certificate {digest}"
        try:
            certificate = Certificate(digest, verify_envelope(self._evidence(digest), keys, what))
        except EvidenceError as error:
            raise NotVerified(error.message, error.hint) from None
        about = (certificate.subject, certificate.config_digest, certificate.product)
        if about != (pointer.digest, pointer.config_digest, pointer.product):
            raise NotVerified(f"{what} is about another image or product", "promote the image again")
        return certificate

    def _evidence(self, digest: str) -> bytes:
        """An envelope beside the metadata, by its digest."""
        try:
            data = read_regular(self._repository / "certificates" / f"{hex_of(digest)}.json", MAX_ENVELOPE)
        except (OSError, ValueError) as error:
            raise NotVerified(
                f"certificate {digest}: {getattr(error, 'strerror', error)}", "promote the image again"
            ) from None
        if digest_of(data) != digest:
            raise NotVerified(f"certificate {digest}: its bytes were changed", "promote the image again")
        return data

    def _target(self, path: str) -> bytes | None:
        """A target's bytes through the TUF client workflow (specification, section 5). Raises NotVerified."""
        client = Path(self._config.trust.client).absolute()
        root = self._root.require()  # it may ask a person: nobody else waits for that
        try:
            with locked(client / ".lock"), tempfile.TemporaryDirectory(prefix="certify-target-") as folder:
                updater = self._client(client, root)
                info = updater.get_targetinfo(path)
                if info is None:
                    return None
                return Path(updater.download_target(info, str(Path(folder) / "target"))).read_bytes()
        except ExpiredMetadataError as error:
            raise NotVerified(
                f"the channel metadata has expired: {error}", "refresh it: certify channels --refresh"
            ) from None
        except DownloadError as error:
            raise NotVerified(f"the channel repository cannot be read: {error}", "restore it from a copy") from None
        except (RepositoryError, ValueError, RecursionError) as error:
            raise NotVerified(f"the channel metadata does not verify: {error}", "it was changed; restore it") from None
        except OSError as error:
            raise TrustError(f"cannot keep what the channel client learnt: {error}", "see trust.client") from None

    def _client(self, client: Path, root: bytes) -> Updater:
        if self._updater is None:
            if self._remembers:
                self._remembered.require_time(self._now)
            self._updater = Updater(
                metadata_dir=str(client),
                metadata_base_url=(self._repository / "metadata").as_uri(),
                target_base_url=(self._repository / "targets").as_uri(),
                fetcher=FileFetcher(),
                bootstrap=root,
            )
        return self._updater


class FileFetcher(FetcherInterface):
    """Reads ``file:`` URLs: the repository is a directory here, or a mounted share."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(unquote(urlparse(url).path))
        try:
            return iter([read_regular(path, MAX_METADATA)])
        except OSError as error:
            raise DownloadHTTPError(f"{path}: {error.strerror}", 404) from None
