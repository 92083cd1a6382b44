"""Records that only their writer can change: a signature over a text, checked whenever it is read again.

The deployer seals its rollouts' states in the ledger: who can write the database but holds no key can change no plan.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature

from certify.errors import NotVerified
from certify.trust.keys import KeyStore

_ROLE = "deployer"


class _Record(Struct, frozen=True):
    """As stored: the text exactly as it was signed, and the signature in hex."""

    sealed: str
    signature: str


class Seal:
    """A deployer's. Its key is made when it first seals something where there is none."""

    def __init__(self, keys: Path) -> None:
        self._keys = KeyStore(keys)

    def close(self, text: str) -> str:
        """The record of ``text``. Raises KeyUnusable."""
        self._keys.create([_ROLE])
        signature = self._keys.signer(_ROLE).sign(text.encode())
        return msgspec.json.encode(_Record(text, signature.signature)).decode()

    def open(self, record: str, what: str) -> str:
        """The text of a record. Raises NotVerified for one that was changed, or sealed by somebody else."""
        try:
            found = msgspec.json.decode(record, type=_Record)
            key = self._keys.public(_ROLE)
            key.verify_signature(Signature(key.keyid, found.signature), found.sealed.encode())
            return found.sealed
        except (msgspec.DecodeError, UnverifiedSignatureError, ValueError):
            raise NotVerified(
                f"{what} was changed, or written by a deployer with another key than the one in {self._keys.path}",
                "use that deployer's key, or end the rollout where it was begun",
            ) from None
