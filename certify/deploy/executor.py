"""Runs a rollout: intent written before, observation after every action, all under the fleet's lease."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from certify.deploy.driver import FleetDriver
from certify.deploy.plan import Release
from certify.deploy.rollout import (
    Action,
    Observation,
    Rollout,
    Status,
    StepResult,
    Verb,
    advance,
    next_action,
    resume,
)
from certify.errors import CertifyError, NoVerdict
from certify.images.candidate import ImageSource


class Ledger(Protocol):
    """Where the executor writes (:class:`certify.ledger.rollouts.RolloutLedger`). All raise LeaseLost."""

    def intend(self, state: Rollout, action: Action) -> None: ...
    def observe(self, state: Rollout, seen: Observation) -> None: ...
    def quarantine(self, fleet: str, digest: str, reason: str) -> None: ...


Told = Callable[[Action, str, str], None]


class Executor:
    """Carries one rollout to its end, or to where it has to pause."""

    def __init__(self, ledger: Ledger, driver: FleetDriver, open_source: Callable[[], ImageSource], told: Told) -> None:
        self._ledger = ledger
        self._driver = driver
        self._open_source = open_source
        self._told = told

    def run(self, state: Rollout) -> Rollout:
        """Go on from ``state`` until it ends or pauses. Raises LeaseLost when another deployer took over."""
        state = resume(state)
        while (action := next_action(state)) is not None:
            self._ledger.intend(state, action)
            self._told(action, "…", "")
            seen = self._perform(state, action)
            state = advance(state, seen)
            if state.status in (
                Status.ROLLED_BACK,
                Status.STUCK,
            ):  # before it is over: a kill in between leaves it to do
                self._ledger.quarantine(state.plan.fleet, state.plan.release.digest, state.reason)
            self._ledger.observe(state, seen)
            self._told(action, seen.result, seen.detail)
        return state

    def _perform(self, state: Rollout, action: Action) -> Observation:
        instance = next(i for i in state.plan.instances if i.name == action.instance)
        release = state.plan.release
        try:
            if action.verb is Verb.PROVISION:
                source = self._open_source()
                _require_blessed(source, release)
                detail = self._driver.provision(instance, source, release)
            else:
                detail = getattr(self._driver, action.verb.value)(instance, release)
            return Observation(action, StepResult.OK, detail)
        except NoVerdict as error:
            return Observation(action, StepResult.UNKNOWN, error.message)
        except CertifyError as error:
            return Observation(action, StepResult.FAILED, error.message)


def _require_blessed(source: ImageSource, release: Release) -> None:
    """What is about to be loaded is exactly what was blessed, manifest and config; other bytes say nothing about it.

    Raises NoVerdict.
    """
    found = (source.candidate.digest, source.candidate.config_digest)
    if found != (release.digest, release.config_digest):
        raise NoVerdict(f"{release.resource_uri} is now {found[0]}, not the blessed digest {release.digest}")
