"""The rollout as a pure state machine: (state, observation) → state, and state → the next action. No I/O.

Rules:

1. One instance at a time. Its new instance is proven beside the old one (``VALIDATE``) before the old one is stopped
   (``ADMIT``), and the old one is *held*, not removed, until the whole rollout is over (``DECOMMISSION``).
2. A failure at any instance turns the rollout back: newest first, every instance that was touched returns to the release
   frozen in the plan; untouched instances are never touched; nothing is proven anew on the way back.
3. *Unknown* is neither success nor failure: it pauses, and the same action is asked again on resume.
4. Every action is idempotent, so an action whose observation was lost is simply done again.
5. A clean-up that fails is a warning, never a rollback. An instance that cannot return is stranded; the others still
   return, and the rollout ends STUCK: it needs a person.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec
from msgspec import Struct

from certify.deploy.plan import Plan


class Status(StrEnum):
    """Where the rollout is."""

    RUNNING = "running"
    PAUSED = "paused"
    ROLLING_BACK = "rolling-back"
    DECOMMISSION = "decommission"
    DONE = "done"
    DONE_WITH_WARNINGS = "done-with-warnings"
    ROLLED_BACK = "rolled-back"
    STUCK = "stuck"


ENDED = frozenset({Status.DONE, Status.DONE_WITH_WARNINGS, Status.ROLLED_BACK, Status.STUCK})


class Phase(StrEnum):
    """Where one instance is."""

    RESERVED = "reserved"
    BOOTED = "booted"
    VALIDATED = "validated"
    SERVING = "serving"
    SOAKED = "soaked"
    RETURNED = "returned"
    STRANDED = "stranded"
    CLEANED = "cleaned"


class Verb(StrEnum):
    """What a driver can be asked for. Each is idempotent."""

    PROVISION = "provision"  # a new instance from the release runs beside the old one
    VALIDATE = "validate"  # it reports the digest, and its health is good
    ADMIT = "admit"  # it takes the old one's place; the old one is stopped and held
    SOAK = "soak"  # its health stays good where it serves
    RESTORE = "restore"  # the previous release serves again, the new one is gone
    DECOMMISSION = "decommission"  # held ones and helpers are removed


class StepResult(StrEnum):
    """How an action went."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Action(Struct, frozen=True):
    """The next thing to do, and to which instance."""

    verb: Verb
    instance: str


class Observation(Struct, frozen=True):
    """What was seen after an action."""

    action: Action
    result: StepResult
    detail: str = ""


class Rollout(Struct, frozen=True, kw_only=True):
    """The whole state: the plan, each instance's phase, and why it is where it is."""

    id: str
    plan: Plan
    status: Status = Status.RUNNING
    phases: dict[str, Phase]
    reason: str = ""
    warnings: tuple[str, ...] = ()
    paused_from: Status | None = None


_FORWARD = {
    Phase.RESERVED: Verb.PROVISION,
    Phase.BOOTED: Verb.VALIDATE,
    Phase.VALIDATED: Verb.ADMIT,
    Phase.SERVING: Verb.SOAK,
}
_BACK = frozenset({Phase.RESERVED, Phase.RETURNED, Phase.STRANDED})
_REACHED = {
    Verb.PROVISION: Phase.BOOTED,
    Verb.VALIDATE: Phase.VALIDATED,
    Verb.ADMIT: Phase.SERVING,
    Verb.SOAK: Phase.SOAKED,
    Verb.RESTORE: Phase.RETURNED,
    Verb.DECOMMISSION: Phase.CLEANED,
}


def begin(rollout_id: str, plan: Plan) -> Rollout:
    """A rollout that has done nothing yet; a plan without changes is done at once."""
    phases = {instance.name: Phase.RESERVED for instance in plan.instances if instance.changes}
    return Rollout(id=rollout_id, plan=plan, phases=phases, status=Status.RUNNING if phases else Status.DONE)


def next_action(state: Rollout) -> Action | None:
    """What to do now; None when it has ended or is paused."""
    if state.status is Status.RUNNING:
        for name, phase in state.phases.items():
            if phase in _FORWARD:
                return Action(_FORWARD[phase], name)
    if state.status is Status.ROLLING_BACK:
        for name in reversed(state.phases):
            if state.phases[name] not in _BACK:
                return Action(Verb.RESTORE, name)
    if state.status is Status.DECOMMISSION:
        for name, phase in state.phases.items():
            if phase is not Phase.CLEANED:
                return Action(Verb.DECOMMISSION, name)
    return None


def advance(state: Rollout, seen: Observation) -> Rollout:
    """The state after an observation. Raises ValueError for one that answers no outstanding action."""
    if next_action(state) != seen.action:
        raise ValueError(f"{seen.action} was not asked for; the next action is {next_action(state)}")
    if seen.result is StepResult.UNKNOWN:
        return _replace(state, status=Status.PAUSED, paused_from=state.status, reason=seen.detail)
    if seen.result is StepResult.FAILED:
        return _failed(state, seen)
    phases = {**state.phases, seen.action.instance: _REACHED[seen.action.verb]}
    return _settled(_replace(state, phases=phases))


def resume(state: Rollout) -> Rollout:
    """Go on from where it was paused."""
    if state.status is not Status.PAUSED:
        return state
    return _replace(state, status=state.paused_from or Status.RUNNING, paused_from=None)


def _failed(state: Rollout, seen: Observation) -> Rollout:
    told = f"{seen.action.instance}: {seen.action.verb} failed: {seen.detail}"
    if state.status is Status.DECOMMISSION:
        phases = {**state.phases, seen.action.instance: Phase.CLEANED}
        return _settled(_replace(state, phases=phases, warnings=(*state.warnings, told)))
    if state.status is Status.ROLLING_BACK:
        phases = {**state.phases, seen.action.instance: Phase.STRANDED}
        return _settled(_replace(state, phases=phases, reason=f"{state.reason}; then {told}"))
    phases = dict(state.phases)
    if phases[seen.action.instance] is Phase.RESERVED:  # something may be half there: it is to be returned as well
        phases[seen.action.instance] = Phase.BOOTED
    return _replace(state, status=Status.ROLLING_BACK, reason=told, phases=phases)


def _settled(state: Rollout) -> Rollout:
    """Move on to the next stage when every instance has reached the end of this one."""
    phases = set(state.phases.values())
    if state.status is Status.RUNNING and phases <= {Phase.SOAKED}:
        return _replace(state, status=Status.DECOMMISSION)
    if state.status is Status.ROLLING_BACK and phases <= _BACK:
        return _replace(state, status=Status.STUCK if Phase.STRANDED in phases else Status.ROLLED_BACK)
    if state.status is Status.DECOMMISSION and phases <= {Phase.CLEANED}:
        return _replace(state, status=Status.DONE_WITH_WARNINGS if state.warnings else Status.DONE)
    return state


def _replace(state: Rollout, **changes: object) -> Rollout:
    return msgspec.structs.replace(state, **changes)
