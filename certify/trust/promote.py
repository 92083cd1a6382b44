"""Promotion: ask the gate, and if it allows, put the digest on the channel with everything it rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from certify.config import Config
from certify.errors import NotVerified, Refused
from certify.files import write_whole
from certify.gate.decision import Decision
from certify.gate.policy import Evidence, Policy
from certify.gate.rules import evaluate
from certify.images.candidate import Candidate, digest_of, hex_of, resource_uri
from certify.models import seconds
from certify.trust.certificates import CertificateStore, SignersLog, gaps
from certify.trust.channels import ChannelRepository
from certify.trust.dsse import sign
from certify.trust.explain import explained
from certify.trust.keys import KeyStore
from certify.trust.pointer import Pointer, stamp
from certify.trust.published import Published
from certify.trust.root import Confirm, nobody
from certify.trust.summary import summary
from certify.trust.verify import Verifier


@dataclass(frozen=True)
class Judged:
    """A decision, and lines about certificates that could not be used."""

    decision: Decision
    unusable: tuple[str, ...]
    policy: Policy


def judge(
    candidate: Candidate,
    policy: Policy,
    config: Config,
    *,
    now: datetime | None = None,
    confirm: Confirm = nobody,
) -> Judged:
    """Gather the verified evidence about a candidate and ask a channel's gate. Changes nothing.

    Which keys are trusted is what the channel repository says. Raises NotVerified when that cannot be verified.
    """
    verifier = Verifier(config, confirm=confirm)
    store = CertificateStore(Path(config.trust.certificates))
    good, bad = store.about(candidate.digest, verifier.keys("runner"))
    standing: frozenset[str] = frozenset()
    if policy.channel.after is not None and Verifier(config, now, remembers=now is None).stands_on(
        candidate, policy.channel.after
    ):
        standing = frozenset([policy.channel.after])
    evidence = Evidence(
        candidate.digest,
        candidate.config_digest,
        tuple(good),
        standing,
        tuple(gaps(candidate.digest, config.product, good, SignersLog(Path(config.trust.keys)))),
        explained(candidate.digest, config, verifier.keys("approver-1")),
    )
    return Judged(evaluate(policy, evidence, now or datetime.now(UTC)), tuple(bad), policy)


def promote(
    candidate: Candidate,
    policy: Policy,
    config: Config,
    *,
    waiting: Callable[[str], None] = lambda _: None,
    confirm: Confirm = nobody,
) -> Pointer:
    """Put a candidate on a channel. Returns the published pointer.

    Raises Refused when the gate does not allow it, KeyUnusable, NotVerified for a repository that somebody changed, TrustError.
    """
    keys = KeyStore(Path(config.trust.keys))
    repository = ChannelRepository(config.trust, confirm)
    with repository.locked(waiting):
        published = repository.read()
        judged = judge(candidate, policy, config)
        if not judged.decision.allow:
            raise Refused(judged.decision)
        now = datetime.now(UTC)
        if not any(key.to_dict() == keys.public("gate").to_dict() for key in Verifier(config).keys("gate")):
            raise NotVerified(
                f"the gate key in {keys.path} is not the one that the channels trust", "use the trusted one"
            )
        pointer = _pointer(candidate, judged, published, now)
        decision = sign(summary(pointer, judged.decision, judged.policy), keys.signer("gate"))
        pointer = msgspec.structs.replace(pointer, decision=digest_of(decision))
        _publish_evidence(candidate, judged.decision, config, decision)
        repository.publish(pointer, published)
    return pointer


def _pointer(candidate: Candidate, judged: Judged, published: Published, now: datetime) -> Pointer:
    """What will stand on the channel, before the decision it rests on has been signed."""
    policy = judged.policy
    place = (policy.name, policy.product, candidate.architecture)
    before = next((p for p in published.pointers() if (p.channel, p.product, p.arch) == place), None)
    return Pointer(
        channel=policy.name,
        product=policy.product,
        arch=candidate.architecture,
        serial=before.serial + 1 if before else 1,
        digest=candidate.digest,
        config_digest=candidate.config_digest,
        media_type=candidate.media_type,
        size=candidate.size,
        resource_uri=resource_uri(candidate),
        certificates=judged.decision.evidence,
        decision="",
        tests=tuple(rule.id for rule in judged.decision.rules),
        not_before=stamp(now),
        valid_until=stamp(now + timedelta(seconds=seconds(policy.channel.valid_for))),
        previous=before.digest if before and before.digest != candidate.digest else before.previous if before else None,
    )


def _publish_evidence(candidate: Candidate, decision: Decision, config: Config, document: bytes) -> None:
    """Copy the certificates and the decision beside the channel metadata, named by digest."""
    store, folder = CertificateStore(Path(config.trust.certificates)), Path(config.trust.repository) / "certificates"
    envelopes = [store.get(candidate.digest, digest) for digest in decision.evidence]
    for data in (*envelopes, document):
        write_whole(folder / f"{hex_of(digest_of(data))}.json", data, sync=True)
