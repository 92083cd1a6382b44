"""Blessing: sign what a finished run saw, with the runner key."""

from __future__ import annotations

from pathlib import Path

from certify.config import Config
from certify.errors import EvidenceError
from certify.evidence.bundle import Bundle
from certify.evidence.certificate import statement
from certify.trust.certificates import CertificateStore
from certify.trust.dsse import sign
from certify.trust.keys import KeyStore


def require_runner_key(config: Config) -> None:
    """Raise KeyUnusable now rather than after the run."""
    KeyStore(Path(config.trust.keys)).signer("runner")


def bless(bundle: Bundle, config: Config, *, only_passing: bool = False) -> list[Path]:
    """Sign a certificate for every target of a finished run; failed ones too, unless ``only_passing``.

    The evidence is compared with its manifest first. Returns the certificate files written. Raises EvidenceError for a
    run that did not finish, was changed, has no verdict, or (``only_passing``) did not pass; KeyUnusable.
    """
    run = bundle.read_run()
    if run.state != "finished":
        raise EvidenceError(f"run {run.id} is {run.state}: there is no verdict to sign", "run the suites to their end")
    manifest = bundle.check_manifest()
    if run.product != config.product:
        raise EvidenceError(f"run {run.id} is of product {run.product}, not {config.product}", "use its certify.yaml")
    refused = {t: v for t, v in run.verdicts.items() if v != "PASSED"}
    if only_passing and refused:
        told = ", ".join(f"{target} {verdict}" for target, verdict in refused.items())
        raise EvidenceError(f"run {run.id} did not pass: {told}", "fix the image and run the suites on the new one")
    signer = KeyStore(Path(config.trust.keys)).signer("runner")
    store = CertificateStore(Path(config.trust.certificates))
    targets = [target for target in run.targets if run.verdicts[target.id] != "NO_VERDICT"]
    written = []
    for number, target in enumerate(targets):
        envelope = sign(statement(run, target, manifest), signer)
        name = f"certificate{'-' + str(number + 1) if len(targets) > 1 else ''}.dsse.json"
        bundle.write(name, envelope)
        store.put(target.digest, envelope)
        written.append(bundle.path / name)
    return written
