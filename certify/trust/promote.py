"""Promotion: ask the gate, and if it allows, put the digest on the channel with everything it rests on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from certify.config import Config, seconds
from certify.errors import CertifyError
from certify.evidence.certificate import STATEMENT_TYPE
from certify.files import write_whole
from certify.gate.decision import Decision
from certify.gate.policy import Evidence, Policy, policy_of
from certify.gate.rules import evaluate
from certify.images.candidate import Candidate, digest_of, hex_of
from certify.images.reference import Reference
from certify.trust.certificates import CertificateStore
from certify.trust.channels import ChannelRepository
from certify.trust.dsse import sign
from certify.trust.keys import KeyStore
from certify.trust.pointer import Pointer, stamp
from certify.trust.verify import Verifier

VSA = "https://slsa.dev/verification_summary/v1"


class Refused(CertifyError):
    """The gate said no; ``decision`` says why."""

    exit_code = 1

    def __init__(self, decision: Decision) -> None:
        told = "; ".join(rule.message for rule in decision.rules if rule.status != "pass")
        super().__init__(
            f"the gate of {decision.channel} refuses {decision.digest}: {told}",
            "; ".join(dict.fromkeys(decision.what_would_change_it)),
        )
        self.decision = decision


@dataclass(frozen=True)
class Judged:
    """A decision, and lines about certificates that could not be used."""

    decision: Decision
    unusable: tuple[str, ...]
    policy: Policy


def judge(candidate: Candidate, channel: str, config: Config, now: datetime | None = None) -> Judged:
    """Gather the verified evidence about a candidate and ask the gate. Changes nothing."""
    policy = policy_of(config, channel)
    keys = KeyStore(Path(config.trust.keys))
    good, bad = CertificateStore(Path(config.trust.certificates)).about(candidate.digest, [keys.public("runner")])
    standing: frozenset[str] = frozenset()
    if policy.after is not None and Verifier(config, now).stands_on(candidate, policy.after):
        standing = frozenset([policy.after])
    evidence = Evidence(candidate.digest, tuple(good), standing)
    return Judged(evaluate(policy, evidence, now or datetime.now(UTC)), tuple(bad), policy)


def promote(
    candidate: Candidate, channel: str, config: Config, *, waiting: Callable[[str], None] = lambda _: None
) -> Pointer:
    """Put a candidate on a channel. Returns the published pointer.

    Raises Refused when the gate does not allow it, KeyUnusable, TrustError.
    """
    keys = KeyStore(Path(config.trust.keys))
    repository = ChannelRepository(Path(config.trust.repository), keys)
    with repository.locked(waiting):
        judged = judge(candidate, channel, config)
        if not judged.decision.allow:
            raise Refused(judged.decision)
        now = datetime.now(UTC)
        decision = sign(_summary(candidate, judged, config, now), keys.signer("gate"))
        pointer = _pointer(candidate, judged, config, repository, digest_of(decision), now)
        _publish_evidence(candidate, judged.decision, config, decision)
        repository.publish(pointer)
    return pointer


def _pointer(
    candidate: Candidate, judged: Judged, config: Config, repository: ChannelRepository, decision: str, now: datetime
) -> Pointer:
    channel = judged.policy.channel
    standing = [
        p
        for p in repository.pointers()
        if (p.channel, p.product, p.arch) == (channel, config.product, candidate.architecture)
    ]
    before = standing[0] if standing else None
    return Pointer(
        channel=channel,
        product=config.product,
        arch=candidate.architecture,
        serial=before.serial + 1 if before else 1,
        digest=candidate.digest,
        config_digest=candidate.config_digest,
        media_type=candidate.media_type,
        size=candidate.size,
        resource_uri=resource_uri(candidate),
        certificates=judged.decision.evidence,
        decision=decision,
        tests=tuple(rule.id for rule in judged.decision.rules),
        not_before=stamp(now),
        valid_until=stamp(now + timedelta(seconds=seconds(config.channels[channel].valid_for))),
        previous=before.digest if before and before.digest != candidate.digest else before.previous if before else None,
    )


def resource_uri(candidate: Candidate) -> str:
    """Where a deployer fetches exactly these bytes: the reference with its tag replaced by the digest."""
    reference = candidate.reference
    if reference.transport == "docker-daemon":
        return str(Reference("docker-daemon", "", digest=candidate.config_digest))
    if reference.transport == "docker":
        return str(Reference("docker", reference.location, digest=candidate.digest))
    return str(Reference(reference.transport, str(Path(reference.location).absolute()), tag=reference.tag))


def _publish_evidence(candidate: Candidate, decision: Decision, config: Config, summary: bytes) -> None:
    """Copy the certificates and the decision beside the channel metadata, named by digest."""
    store, folder = CertificateStore(Path(config.trust.certificates)), Path(config.trust.repository) / "certificates"
    envelopes = [store.get(candidate.digest, digest) for digest in decision.evidence]
    for data in (*envelopes, summary):
        write_whole(folder / f"{hex_of(digest_of(data))}.json", data)


def _summary(candidate: Candidate, judged: Judged, config: Config, now: datetime) -> dict[str, Any]:
    """The gate's decision as a verification summary (slsa.dev/spec/v1.0/verification_summary)."""
    policy = msgspec.json.encode(config.channels[judged.policy.channel], order="sorted")
    level = "CERTIFY_" + judged.policy.channel.upper().replace("-", "_").replace(".", "_")
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": str(candidate.reference), "digest": {"sha256": hex_of(candidate.digest)}}],
        "predicateType": VSA,
        "predicate": {
            "verifier": {"id": "https://certify.dev/gate"},
            "timeVerified": stamp(now),
            "resourceUri": resource_uri(candidate),
            "policy": {
                "uri": f"certify.yaml#channels.{judged.policy.channel}",
                "digest": {"sha256": hex_of(digest_of(policy))},
            },
            "inputAttestations": [
                {
                    "uri": f"certificates/{hex_of(d)}.json",
                    "digest": {"sha256": hex_of(d)},
                }
                for d in judged.decision.evidence
            ],
            "verificationResult": "PASSED" if judged.decision.allow else "FAILED",
            "verifiedLevels": [level] if judged.decision.allow else [],
            "slsaVersion": "1.0",
        },
    }
