"""Signing what a run saw, with the runner key: its seal, and its certificates.

The *seal* is made when a run ends, by the notary (:mod:`certify.trust.notary`), over what was streamed to it. Whatever is
signed later, by ``certify bless``, is compared with the seal first: evidence that was edited since is not blessed.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer

from certify.config import Config
from certify.errors import EvidenceError, TrustError
from certify.evidence.bundle import Bundle
from certify.evidence.certificate import STATEMENT_TYPE, Place, statement
from certify.evidence.run import Run, Target
from certify.files import read_regular
from certify.images.candidate import hex_of
from certify.trust.certificates import CertificateStore, SignersLog
from certify.trust.dsse import MAX_ENVELOPE, sign, verify
from certify.trust.keys import KeyStore

SEAL = "https://certify.dev/attestation/run-seal/v1"
_SEAL_FILE = "seal.dsse.json"


def seal(bundle: Bundle, run: Run, manifest: str, head: str, config: Config) -> str:
    """Sign the end of a run: the digest of its manifest and the head of its outcomes' chain. Returns why it could not be
    done; empty when it is sealed, or when nobody signs here."""
    keys = KeyStore(Path(config.trust.keys))
    if not keys.has("runner"):
        return ""
    try:
        envelope = sign(_seal_of(run, manifest, head), keys.signer("runner"))
    except TrustError as error:
        return error.message
    bundle.write(_SEAL_FILE, envelope)
    return ""


def _seal_of(run: Run, manifest: str, head: str) -> dict[str, Any]:
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "manifest.json", "digest": {"sha256": hex_of(manifest)}}],
        "predicateType": SEAL,
        "predicate": {"run": run.id, "product": run.product, "outcomes": head, "finishedOn": run.finished},
    }


def bless(bundle: Bundle, config: Config) -> list[Path]:
    """Sign a certificate for every target of a finished, passing run that was sealed here. Returns the files written.

    Raises EvidenceError for a run that did not finish or pass, was never sealed or was changed since; KeyUnusable.
    """
    state = bundle.read_run().state
    if state != "finished":
        raise EvidenceError(f"{bundle.path} is {state}: there is no verdict to sign", "run the suites to their end")
    run, manifest = bundle.sealed_run()
    _check_seal(bundle, run, manifest, config)
    refused = {t: v for t, v in run.verdicts.items() if v != "PASSED"}
    if refused or not run.verdicts:
        told = ", ".join(f"{target} {verdict}" for target, verdict in refused.items())
        left_out = set(refused.values()) == {"INCOMPLETE"}
        remedy = "run the suites whole and sign: pytest --image REF --sign"
        remedy = remedy if left_out else "fix the image and run the suites on the new one"
        raise EvidenceError(f"run {run.id} did not pass: {told}", remedy)
    return sign_certificates(bundle, run, manifest, config)


def sign_certificates(bundle: Bundle, run: Run, manifest: str, config: Config) -> list[Path]:
    """Sign a certificate for every target that has a verdict, passed or failed. The caller knows the run to be genuine."""
    if run.product != config.product:
        raise EvidenceError(f"run {run.id} is of product {run.product}, not {config.product}", "use its certify.yaml")
    keys = Path(config.trust.keys)
    signer, store, log = (
        KeyStore(keys).signer("runner"),
        CertificateStore(Path(config.trust.certificates)),
        SignersLog(keys),
    )
    targets = [target for target in run.targets if run.verdicts[target.id] != "NO_VERDICT"]
    written = []
    for number, target in enumerate(targets):
        envelope = log.add(target.digest, run.product, store, partial(_signed, run, target, manifest, signer))
        name = f"certificate{'-' + str(number + 1) if len(targets) > 1 else ''}.dsse.json"
        bundle.write(name, envelope)
        written.append(bundle.path / name)
    return written


def _signed(run: Run, target: Target, manifest: str, signer: Signer, place: Place) -> bytes:
    return sign(statement(run, target, manifest, place), signer)


def _check_seal(bundle: Bundle, run: Run, manifest: str, config: Config) -> None:
    what = f"{bundle.path / _SEAL_FILE}"
    try:
        envelope = read_regular(bundle.path / _SEAL_FILE, MAX_ENVELOPE)
    except OSError:
        raise EvidenceError(
            f"run {run.id} was not sealed when it ended: nobody can tell whether it was changed since",
            "run the suites again where the runner key is, or with --sign",
        ) from None
    document = verify(envelope, [KeyStore(Path(config.trust.keys)).public("runner")], what)
    _, head = bundle.outcomes()
    wanted = _seal_of(run, manifest, head)
    if document != wanted:
        raise EvidenceError(f"{bundle.path} was changed after the run", "evidence is never edited; run again")
