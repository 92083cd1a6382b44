"""The gate's decision as a verification summary (slsa.dev/spec/v1.0/verification_summary): made, and read again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from certify.errors import NotVerified
from certify.evidence.certificate import STATEMENT_TYPE
from certify.evidence.plan import digest_of_data
from certify.gate.decision import Decision
from certify.gate.policy import Policy
from certify.images.candidate import Candidate, hex_of, resource_uri
from certify.trust.pointer import Pointer, stamp

VSA = "https://slsa.dev/verification_summary/v1"


def summary(candidate: Candidate, decision: Decision, policy: Policy, now: datetime) -> dict[str, Any]:
    """The statement that the gate key signs: what was decided about which bytes, by which policy, from which certificates."""
    lock = policy.lock.digest if policy.lock else ""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": str(candidate.reference), "digest": {"sha256": hex_of(candidate.digest)}}],
        "predicateType": VSA,
        "predicate": {
            "verifier": {"id": "https://certify.dev/gate"},
            "timeVerified": stamp(now),
            "resourceUri": resource_uri(candidate),
            "policy": {
                "uri": _policy_uri(policy.name),
                "digest": {"sha256": hex_of(digest_of_data([policy.product, policy.channel, lock]))},
            },
            "inputAttestations": [
                {"uri": f"certificates/{hex_of(d)}.json", "digest": {"sha256": hex_of(d)}} for d in decision.evidence
            ],
            "verificationResult": "PASSED" if decision.allow else "FAILED",
            "verifiedLevels": [_level(policy.name)] if decision.allow else [],
            "slsaVersion": "1.0",
            "product": policy.product,
            "configDigest": candidate.config_digest,
            "allowWarned": policy.channel.allow_warned,
        },
    }


def require_summary(document: dict[str, Any], pointer: Pointer) -> bool:
    """Check that a verified decision is the one a pointer rests on. Returns whether warned certificates count.

    Raises NotVerified when it is about other bytes, another channel or product, was no yes, or rests on other certificates.
    """
    try:
        [subject], predicate = document["subject"], document["predicate"]
        inputs = {"sha256:" + item["digest"]["sha256"] for item in predicate["inputAttestations"]}
        said = {
            "type": (document["predicateType"], VSA),
            "digest": ("sha256:" + subject["digest"]["sha256"], pointer.digest),
            "config digest": (predicate["configDigest"], pointer.config_digest),
            "channel": (predicate["policy"]["uri"], _policy_uri(pointer.channel)),
            "product": (predicate["product"], pointer.product),
            "result": (predicate["verificationResult"], "PASSED"),
            "level": (predicate["verifiedLevels"], [_level(pointer.channel)]),
            "place": (predicate["resourceUri"], pointer.resource_uri),
            "certificates": (inputs, set(pointer.certificates)),
            "time": (predicate["timeVerified"], pointer.not_before),
        }
        warned = predicate["allowWarned"] is True
    except (KeyError, TypeError, ValueError) as error:
        raise NotVerified(f"decision {pointer.decision}: malformed ({error!r})", "promote the image again") from None
    for what, (found, wanted) in said.items():
        if found != wanted:
            raise NotVerified(
                f"decision {pointer.decision}: its {what} is {found}, the pointer's {wanted}", "promote the image again"
            )
    return warned


def _policy_uri(channel: str) -> str:
    return f"certify.yaml#channels.{channel}"


def _level(channel: str) -> str:
    return "CERTIFY_" + channel.upper().replace("-", "_").replace(".", "_")
