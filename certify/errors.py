"""Every error certify raises on purpose. ``message`` says what is wrong and where, ``hint`` what to do.

::

    CertifyError                      exit 2
    ├── UsageError                    the command line, a reference, a file somebody wrote
    │   ├── BadReference              a reference that names nothing certify can read
    │   └── ConfigError               certify.yaml, fleet.yaml: carries file and line
    ├── ImageError                    the candidate itself
    │   ├── ImageNotFound
    │   ├── ImageInvalid              truncated, hostile or self-contradicting bytes
    │   │   ├── NotReadable           sound, but only booting it shows its files
    │   │   └── DigestMismatch        bytes that are not what their digest says
    │   └── WrongPlatform             built for another architecture or system
    ├── NoVerdict                     exit 6: the infrastructure failed, so nothing is known about the candidate
    │   ├── EngineUnavailable
    │   ├── BootFailed                never became a node that answers
    │   ├── NodeLost                  was a node, answers no more
    │   ├── ShellUnavailable          no command channel
    │   └── Unanswered                a check's own command could not see everything
    ├── GuestFailed                   the candidate is at fault: panic, boot loop, no way back (a failed check)
    ├── CommandTimeout                the check's command took too long (a failed check, the node lives)
    ├── OutputLimit                   the check's command printed more than the cap (a failed check)
    ├── StrictMismatch                strict mode: the shell and a separate process disagree
    ├── EvidenceError                 a run's evidence is missing, changed or could not be written
    ├── Refused                       exit 1: a gate said no; carries its decision
    ├── TrustError                    exit 1 from ``certify verify``: keys, signatures, metadata
    │   ├── KeyUnusable
    │   ├── MemoryUnusable            what this machine remembers is damaged or cannot be written
    │   └── NotVerified               a signature, digest or freshness check failed
    └── RolloutError                  a rollout that cannot start or go on
        └── LeaseLost                 another deployer took over
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certify.gate.decision import Decision


class CertifyError(Exception):
    """Base of all. ``exit_code`` is what a command line ends with: 2 usage or failure, 1 a "no", 6 no verdict. ``console`` is
    what a node had said until then, where a node is what it is about."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.console = b""

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(CertifyError):
    """Something a person wrote is wrong."""


class BadReference(UsageError):
    """A reference that names nothing certify can read."""


class ConfigError(UsageError):
    """A mistake in a configuration file; the message starts with ``file:line``."""


class ImageError(CertifyError):
    """The candidate is missing or unusable."""


class ImageNotFound(ImageError):
    """Nothing there under that reference."""


class ImageInvalid(ImageError):
    """Truncated, hostile or self-contradicting bytes."""


class NotReadable(ImageInvalid):
    """A sound image whose files certify cannot read without booting it."""


class DigestMismatch(ImageInvalid):
    """Bytes that are not what their digest says."""


class WrongPlatform(ImageError):
    """Built for another architecture or operating system than the one that would boot it."""


class NoVerdict(CertifyError):
    """The infrastructure failed: nothing is known about the candidate, neither good nor bad."""

    exit_code = 6


class EngineUnavailable(NoVerdict):
    """The engine, hypervisor or BMC does not answer."""


class BootFailed(NoVerdict):
    """The candidate never became a node that answers."""


class NodeLost(NoVerdict):
    """The node answered before and does no more."""


class ShellUnavailable(NoVerdict):
    """No command channel to the node could be opened."""


class Unanswered(NoVerdict):
    """A command that a check asks with could not look everywhere: what it did not see may be anything."""


class GuestFailed(CertifyError):
    """The booted candidate failed by itself: a kernel panic, a boot loop, nothing to boot. Its console is the proof."""

    exit_code = 1


class CommandTimeout(CertifyError):
    """A command on a node took longer than its time-out; it was killed, the node lives on."""


class OutputLimit(CertifyError):
    """A command on a node printed more than the cap; it was killed, the node lives on."""


class StrictMismatch(CertifyError):
    """Strict mode ran a command both ways and got two answers."""


class EvidenceError(CertifyError):
    """A run's evidence is missing, changed or could not be written."""


class Refused(CertifyError):
    """A gate does not let an image onto a channel; ``decision`` (:class:`certify.gate.decision.Decision`) says why."""

    exit_code = 1

    def __init__(self, decision: Decision) -> None:
        told = "; ".join(rule.message for rule in decision.rules if rule.status != "pass")
        super().__init__(
            f"the gate of {decision.channel} refuses {decision.digest}: {told}",
            "; ".join(dict.fromkeys(decision.what_would_change_it)),
        )
        self.decision = decision


class TrustError(CertifyError):
    """Keys, signatures, repository metadata."""

    exit_code = 1


class KeyUnusable(TrustError):
    """A key that is missing, unreadable or readable by others."""

    exit_code = 2


class MemoryUnusable(TrustError):
    """What this machine remembers of earlier times is damaged, or cannot be written."""

    exit_code = 2


class NotVerified(TrustError):
    """A signature, digest, threshold or freshness check failed."""


class RolloutError(CertifyError):
    """A rollout cannot start or go on."""


class LeaseLost(RolloutError):
    """Another deployer holds the fleet's lease now."""
