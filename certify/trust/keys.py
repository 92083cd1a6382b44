"""Keys by role, so that none can do another's work, loaded through securesystemslib's signers.

``runner`` signs what it saw, ``gate`` signs decisions, ``approver-1`` moves channels, ``deployer`` seals its own ledger;
``root`` and ``targets`` (kept offline in production), ``snapshot`` and ``timestamp`` are the TUF roles of the channel
repository. A private key is ``<role>.pem`` (PKCS#8, mode 0600), its public half ``<role>.pub.json``. A role whose key is
elsewhere has its signer's URI in ``<role>.uri`` (any scheme that securesystemslib knows: PKCS#11, KMS, Vault …).

Nobody else may write the folder or a file of it: who can exchange a public key or a URI can sign as that role.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.exceptions import Error as SslibError
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Key, Signer, SSlibKey

from certify.errors import KeyUnusable
from certify.files import write_whole

ROLES = ("runner", "gate", "approver-1", "deployer", "root", "targets", "snapshot", "timestamp")


class KeyStore:
    """The keys directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, roles: Iterable[str] = ROLES) -> list[str]:
        """Make the development keys that are missing. Returns the roles made; keys that exist are never replaced.

        A private key whose public half is missing gets it back. Raises KeyUnusable where it cannot.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lacking = [role for role in roles if not (self.path / f"{role}.pub.json").exists()]
        made = [role for role in lacking if not self.has(role)]
        for role in lacking:
            signer = CryptoSigner.generate_ed25519() if role in made else self._private(role)
            if role in made:  # the private half first: one that a kill left alone gets its public half back
                write_whole(self.path / f"{role}.pem", signer.private_bytes, sync=True, mode=0o600)
            public = {"keyid": signer.public_key.keyid, **signer.public_key.to_dict()}
            write_whole(self.path / f"{role}.pub.json", json.dumps(public, indent=2).encode() + b"\n", sync=True)
        return made

    def _private(self, role: str) -> CryptoSigner:
        """The key in a role's file, whose public half is derived from it."""
        path = self.path / f"{role}.pem"
        try:
            return CryptoSigner(load_pem_private_key(path.read_bytes(), None))
        except (OSError, ValueError, TypeError, SslibError) as error:
            raise KeyUnusable(
                f"{self.path}: the role {role} has no public key, and its private one is unusable here ({error})",
                f"restore {role}.pub.json from where it was made",
            ) from None

    def has(self, role: str) -> bool:
        """Whether this role signs here at all."""
        return any((self.path / f"{role}{suffix}").exists() for suffix in (".pem", ".uri"))

    def public(self, role: str) -> Key:
        """A role's public key. Raises KeyUnusable."""
        path = self.path / f"{role}.pub.json"
        self._require_own(path)
        try:
            document = json.loads(path.read_bytes())
            return SSlibKey.from_dict(document.pop("keyid"), document)
        except FileNotFoundError:
            raise KeyUnusable(f"{path}: no public key for the role {role}", "make keys with `certify init`") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SslibError) as error:
            raise KeyUnusable(f"{path}: unusable public key ({error})", "restore it from where it was made") from None

    def signer(self, role: str) -> Signer:
        """A role's signer. Raises KeyUnusable also for a key file that others can read."""
        public = self.public(role)
        uri_file, path = self.path / f"{role}.uri", self.path / f"{role}.pem"
        try:
            if uri_file.exists():
                self._require_own(uri_file)
                return Signer.from_priv_key_uri(_known_uri(uri_file), public)
            self._require_own(path)
            mode = path.stat().st_mode & 0o777
            if mode & 0o077:
                raise KeyUnusable(f"{path}: others can read this private key (mode {mode:04o})", f"chmod 600 {path}")
            return Signer.from_priv_key_uri(f"file2:{path}", public)
        except OSError as error:
            raise KeyUnusable(
                f"{path}: {error.strerror}",
                f"only the holder of the {role} key can do this; make keys with `certify init`",
            ) from None
        except (ValueError, TypeError, SslibError, ImportError) as error:
            raise KeyUnusable(f"{path}: unusable private key ({error})", "restore it from where it was made") from None

    def _require_own(self, path: Path) -> None:
        """Raise KeyUnusable when somebody else could have put this file there, or can change it."""
        for place in (self.path, path):
            try:
                seen = place.stat()
            except OSError:
                continue  # what is missing is said by whoever reads it
            if seen.st_mode & 0o022:
                mode = stat.S_IMODE(seen.st_mode)
                raise KeyUnusable(f"{place}: others can write it (mode {mode:04o})", f"chmod go-w {place}")
            if seen.st_uid not in (0, os.geteuid()):
                raise KeyUnusable(f"{place}: belongs to uid {seen.st_uid}, not to you", "make keys of your own")


def _known_uri(path: Path) -> str:
    """A signer's URI with a scheme that there is a signer for. Raises KeyUnusable."""
    uri = path.read_text().strip()
    scheme = uri.partition(":")[0]
    if scheme not in SIGNER_FOR_URI_SCHEME or "\n" in uri:
        known = ", ".join(sorted(SIGNER_FOR_URI_SCHEME))
        raise KeyUnusable(f"{path}: no signer for {uri[:80]!r}", f"known schemes: {known}")
    return uri


def distinct(keys: list[Key]) -> list[Key]:
    """The keys, one per public value: one key under two ids must not count twice."""
    by_value = {json.dumps([key.keytype, key.to_dict()["keyval"]], sort_keys=True): key for key in keys}
    return list(by_value.values())
