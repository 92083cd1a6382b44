"""The gate's decision as a verification summary (slsa.dev/spec/v1.0/verification_summary): made, and read again."""

from __future__ import annotations

from typing import Any

import msgspec

from certify.errors import NotVerified
from certify.evidence.certificate import STATEMENT_TYPE
from certify.evidence.plan import digest_of_data
from certify.gate.decision import Decision
from certify.gate.policy import Policy
from certify.images.candidate import hex_of
from certify.trust.pointer import Pointer

VSA = "https://slsa.dev/verification_summary/v1"


def summary(pointer: Pointer, decision: Decision, policy: Policy) -> dict[str, Any]:
    """The statement that the gate key signs: what was decided about which bytes, by which policy, from which certificates, and
    the whole ``pointer`` that may say so, but for the decision it names: who moves channels can put nothing else there."""
    lock = policy.lock.digest if policy.lock else ""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": pointer.resource_uri, "digest": {"sha256": hex_of(pointer.digest)}}],
        "predicateType": VSA,
        "predicate": {
            "verifier": {"id": "https://certify.dev/gate"},
            "timeVerified": pointer.not_before,
            "resourceUri": pointer.resource_uri,
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
            "configDigest": pointer.config_digest,
            "pointer": _without_decision(pointer),
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
            "pointer": (predicate["pointer"], _without_decision(pointer)),
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


def _without_decision(pointer: Pointer) -> dict[str, Any]:
    published: dict[str, Any] = msgspec.json.decode(pointer.encode())
    return {name: value for name, value in published.items() if name != "decision"}


def _policy_uri(channel: str) -> str:
    return f"certify.yaml#channels.{channel}"


def _level(channel: str) -> str:
    return "CERTIFY_" + channel.upper().replace("-", "_").replace(".", "_")
