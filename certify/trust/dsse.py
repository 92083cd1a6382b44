"""DSSE envelopes around in-toto statements (secure-systems-lab/dsse, envelope.md and protocol.md).

Signed bytes are the pre-authentication encoding. ``keyid`` is only a hint: every trusted key is tried on every
signature, and thresholds count distinct public keys.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import msgspec
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import Key, Signature, Signer

from certify.errors import KeyUnusable, NotVerified
from certify.trust.keys import distinct

PAYLOAD_TYPE = "application/vnd.in-toto+json"
#: Envelopes larger than this are refused, in bytes.
MAX_ENVELOPE = 16 * 1024 * 1024
#: Each costs a verification by every trusted key.
_MOST_SIGNATURES = 64


def sign(statement: dict[str, Any], signer: Signer) -> bytes:
    """An envelope with one signature, as JSON bytes. Raises KeyUnusable when its own public key does not verify it."""
    payload = msgspec.json.encode(statement, order="sorted")
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    try:
        signature = envelope.sign(signer)
    except Exception as error:  # noqa: BLE001 - tokens and key services fail in ways of their own
        raise KeyUnusable(
            f"the signer of {signer.public_key.keyid[:16]} failed: {error}", "see its <role>.uri"
        ) from None
    if not _signed(signer.public_key, bytes.fromhex(signature.signature), envelope.pae()):
        raise KeyUnusable("the private key is not that of its public key", "restore both from where they were made")
    return json.dumps(envelope.to_dict(), sort_keys=True).encode()


def verify(envelope: bytes, keys: list[Key], what: str, threshold: int = 1) -> dict[str, Any]:
    """The statement inside, if ``threshold`` of ``keys`` signed exactly it. Raises NotVerified."""
    payload, signatures = _parse(envelope, what)
    pae = Envelope(payload, PAYLOAD_TYPE, {}).pae()
    signed_by = [key for key in distinct(keys) if any(_signed(key, signature, pae) for signature in signatures)]
    if threshold < 1 or len(signed_by) < threshold:
        raise NotVerified(
            f"{what}: signed by {len(signed_by)} of the {threshold} trusted keys needed",
            "it was changed, or signed by a key that is not trusted here",
        )
    try:
        return msgspec.json.decode(payload, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotVerified(f"{what}: the signed payload is no JSON object ({error})", "do not use it") from None


def _parse(envelope: bytes, what: str) -> tuple[bytes, list[bytes]]:
    try:
        if len(envelope) > MAX_ENVELOPE:
            raise ValueError(f"larger than {MAX_ENVELOPE} bytes")
        document = msgspec.json.decode(envelope, type=dict[str, Any])
        if document["payloadType"] != PAYLOAD_TYPE:
            raise ValueError(f"payload type {document['payloadType']!r}")
        payload = base64.b64decode(document["payload"], validate=True)
        if len(document["signatures"]) > _MOST_SIGNATURES:
            raise ValueError(f"more than {_MOST_SIGNATURES} signatures")
        return payload, [base64.b64decode(item["sig"], validate=True) for item in document["signatures"]]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, binascii.Error, RecursionError) as error:
        raise NotVerified(f"{what}: no DSSE envelope ({error})", "it was damaged; make it again") from None


def _signed(key: Key, signature: bytes, pae: bytes) -> bool:
    try:
        key.verify_signature(Signature(key.keyid, signature.hex()), pae)
        return True
    except UnverifiedSignatureError:
        return False
