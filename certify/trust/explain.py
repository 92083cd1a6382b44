"""Explanations of failed certificates: why a failure of a digest does not speak against it, said by one who may bless.

A signed statement beside the certificates, ``<certificates>/<subject hex>/explained/<certificate hex>.json``. The channel's
``max_failed_runs`` counts what nobody explained.
"""

from __future__ import annotations

from pathlib import Path

from securesystemslib.signer import Key

from certify.config import Config
from certify.errors import CertifyError, UsageError
from certify.evidence.certificate import STATEMENT_TYPE
from certify.evidence.run import timestamp
from certify.files import read_regular, write_whole
from certify.images.candidate import hex_of
from certify.images.reference import DIGEST
from certify.trust.dsse import MAX_ENVELOPE, sign, verify
from certify.trust.keys import KeyStore

EXPLANATION = "https://certify.dev/attestation/explanation/v1"
_ROLE = "approver-1"


def explain(certificate: str, reason: str, config: Config) -> Path:
    """Sign why a certificate's failure does not count. Returns the file written. Raises UsageError, KeyUnusable."""
    if not DIGEST.fullmatch(certificate):
        raise UsageError(f"{certificate}: no certificate's digest", "take it from certify gate --json: sha256:…")
    if len(reason.strip()) < 8:
        raise UsageError("the reason says nothing", "say in a sentence what failed and why it was not the image")
    found = sorted(Path(config.trust.certificates).glob(f"*/{hex_of(certificate)}.json"))
    if not found:
        raise UsageError(
            f"{certificate}: no such certificate in {config.trust.certificates}", "see certify gate --json"
        )
    keys = KeyStore(Path(config.trust.keys))
    document = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "certificate", "digest": {"sha256": hex_of(certificate)}}],
        "predicateType": EXPLANATION,
        "predicate": {"reason": reason.strip(), "product": config.product, "by": _ROLE, "at": timestamp()},
    }
    path = found[0].parent / "explained" / found[0].name
    write_whole(path, sign(document, keys.signer(_ROLE)), sync=True)
    return path


def explained(subject: str, config: Config, approvers: list[Key]) -> frozenset[str]:
    """Digests of the certificates about ``subject`` that have an explanation by one of ``approvers``."""
    found = set()
    folder = Path(config.trust.certificates) / hex_of(subject) / "explained"
    for path in sorted(folder.glob("*.json")):
        try:
            document = verify(read_regular(path, MAX_ENVELOPE), approvers, f"explanation {path.name}")
            about = "sha256:" + str(document["subject"][0]["digest"]["sha256"])
            if document["predicateType"] == EXPLANATION and document["predicate"]["product"] == config.product:
                found.add(about)
        except (CertifyError, OSError, KeyError, IndexError, TypeError):
            continue  # one that does not verify explains nothing, and the gate says how many are unexplained
    return frozenset(found)
