"""What a deploy driver is: it observes and replaces the instances of one fleet. Docker engines have one; others plug in."""

from __future__ import annotations

from typing import Protocol

from certify.config import Config, Fleet
from certify.deploy.plan import PlannedInstance, Release
from certify.images.candidate import ImageSource


class FleetDriver(Protocol):
    """Bound to one fleet. Every method may be repeated and then does only what is missing.

    All raise NoVerdict errors when the instance's host does not answer (the outcome is then *unknown*), and other
    CertifyErrors when what was asked for has failed.
    """

    def running(self, instance: str) -> Release | None:
        """What an instance serves now, as it reports itself; None if nothing of this fleet."""
        ...

    def provision(self, instance: PlannedInstance, source: ImageSource, release: Release) -> str:
        """Start a new instance from the release beside the old one. Returns a few words on what was done."""
        ...

    def validate(self, instance: PlannedInstance, release: Release) -> str:
        """Wait until the new instance reports the digest and is healthy."""
        ...

    def admit(self, instance: PlannedInstance, release: Release) -> str:
        """Put the new instance in the old one's place. The old one is stopped and held."""
        ...

    def soak(self, instance: PlannedInstance, release: Release) -> str:
        """Watch the new instance's health where it serves."""
        ...

    def restore(self, instance: PlannedInstance, release: Release) -> str:
        """Make ``instance.previous`` serve again and remove what ``release`` brought."""
        ...

    def decommission(self, instance: PlannedInstance, release: Release) -> str:
        """Remove everything of the instance that does not serve ``release``."""
        ...


class DeployDriver(Protocol):
    """Makes fleet drivers. ``name`` is what ``fleet.yaml`` calls it."""

    name: str

    def bind(self, fleet: Fleet, config: Config) -> FleetDriver:
        """The driver for one fleet. Raises RolloutError for settings it cannot work with."""
        ...
