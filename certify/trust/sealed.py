"""Records that only their writer can change: a signature over a text, checked whenever it is read again.

The deployer seals its rollouts' states in the ledger: who can write the database but holds no key can change no plan. Each
record has a number, and the highest one that was seen is kept with the key: an older record, put back, is refused.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Signature

from certify.errors import NotVerified
from certify.trust.keys import KeyStore
from certify.trust.memory import Remembered

_ROLE = "deployer"


class _Record(Struct, frozen=True):
    """As stored: whose it is, which one, the text exactly as it was signed, and the signature of all three in hex."""

    name: str
    number: int
    sealed: str
    signature: str

    @property
    def signed_bytes(self) -> bytes:
        return msgspec.json.encode([self.name, self.number, self.sealed])


class Seal:
    """A deployer's. Its key is made when it first seals something where there is none."""

    def __init__(self, keys: Path) -> None:
        self._keys = KeyStore(keys)
        self._seen = Remembered(keys / "deployer.seen.json", dict[str, int], {})

    def close(self, name: str, text: str) -> str:
        """The next record of ``name``. Raises KeyUnusable."""
        self._keys.create([_ROLE])
        record = _Record(name, self._seen.read().get(name, 0) + 1, text, "")
        signature = self._keys.signer(_ROLE).sign(record.signed_bytes)
        return msgspec.json.encode(msgspec.structs.replace(record, signature=signature.signature)).decode()

    def open(self, name: str, record: str) -> str:
        """The text of a record. Raises NotVerified for one that was changed, is an old one, or was sealed by somebody else."""
        try:
            found = msgspec.json.decode(record, type=_Record)
            key = self._keys.public(_ROLE)
            key.verify_signature(Signature(key.keyid, found.signature), found.signed_bytes)
        except (msgspec.DecodeError, UnverifiedSignatureError, ValueError, RecursionError):
            raise NotVerified(
                f"{name} was changed, or written by a deployer with another key than the one in {self._keys.path}",
                "use that deployer's key, or end the rollout where it was begun",
            ) from None
        if found.name != name or found.number < self._seen.read().get(name, 0):
            raise NotVerified(f"{name} is an older state of itself, or another's", "restore the ledger as it was")
        return found.sealed

    def mark(self, kind: str, name: str) -> None:
        """Remember that something stands in the ledger, until :meth:`unmark`: taken out of it, it is missed."""
        self._seen.update(lambda seen: {**seen, f"{kind} {name}": 1})

    def unmark(self, kind: str, name: str) -> None:
        """It is over. Safe to repeat."""
        self._seen.update(lambda seen: {key: number for key, number in seen.items() if key != f"{kind} {name}"})

    def marked(self, kind: str) -> list[str]:
        """The names that are marked, in order."""
        return sorted(key.removeprefix(f"{kind} ") for key in self._seen.read() if key.startswith(f"{kind} "))

    def remember(self, name: str, record: str) -> None:
        """That a record has been stored: nothing older counts any more."""
        number = msgspec.json.decode(record, type=_Record).number
        self._seen.update(lambda seen: {**seen, name: max(number, seen.get(name, 0))})
