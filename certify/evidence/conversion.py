"""The statement that two files hold the same disk: in-toto Statement v1 with our own predicate, both digests in it."""

from __future__ import annotations

from typing import Any

import certify
from certify.evidence.certificate import STATEMENT_TYPE
from certify.evidence.run import timestamp
from certify.images.candidate import Candidate, hex_of

CONVERSION = "https://certify.dev/attestation/conversion/v1"


def conversion_statement(origin: Candidate, digest: str, form: str, name: str) -> dict[str, Any]:
    """``digest`` (file ``name``, format ``form``) was made from ``origin`` and compared with it."""
    material = {"name": str(origin.reference), "digest": {"sha256": hex_of(origin.digest)}}
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": hex_of(digest)}}],
        "predicateType": CONVERSION,
        "predicate": {
            "origin": {**material, "mediaType": origin.media_type},
            "format": form,
            "comparison": "every guest-visible byte is the same",
            "finishedOn": timestamp(),
            "certify": certify.__version__,
        },
    }
