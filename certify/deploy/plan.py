"""A rollout's plan: data, resolved to digests when made, previous-good frozen per instance. Printable and lintable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from certify.config import Fleet
from certify.errors import RolloutError
from certify.models import seconds
from certify.trust.pointer import Pointer


class Release(Struct, frozen=True, kw_only=True):
    """What to run: the blessed digest, the engine's name for it, and where its bytes are."""

    digest: str
    config_digest: str
    resource_uri: str
    serial: int = 0


class PlannedInstance(Struct, frozen=True, kw_only=True):
    """One member: what it runs now (its previous-good; None if nothing) and whether it changes at all."""

    name: str
    previous: Release | None
    changes: bool


class Plan(Struct, frozen=True, kw_only=True):
    """One instance at a time, in the order of ``fleet.yaml``."""

    fleet: str
    channel: str
    product: str
    release: Release
    instances: tuple[PlannedInstance, ...]

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return any(instance.changes for instance in self.instances)

    def to_json(self) -> dict[str, Any]:
        """The shape ``certify deploy --dry-run --json`` prints."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return document


def make_plan(fleet: Fleet, channel: str, pointer: Pointer, running: Mapping[str, Release | None]) -> Plan:
    """Plan moving every instance to the pointer's digest. ``running`` is what each serves now.

    Raises RolloutError for health settings that cannot work.
    """
    lint(fleet)
    release = Release(
        digest=pointer.digest,
        config_digest=pointer.config_digest,
        resource_uri=pointer.resource_uri,
        serial=pointer.serial,
    )
    return Plan(
        fleet=fleet.fleet,
        channel=channel,
        product=pointer.product,
        release=release,
        instances=tuple(
            PlannedInstance(name=i.name, previous=running[i.name], changes=not _runs(running[i.name], release))
            for i in fleet.instances
        ),
    )


def lint(fleet: Fleet) -> None:
    """Raise RolloutError for a plan that could only fail."""
    health = fleet.health
    needed = seconds(health.interval) * health.successes
    if seconds(health.start_period) < needed:
        raise RolloutError(
            f"health: {health.successes} checks every {health.interval} do not fit into a start period of {health.start_period}",
            f"make start_period at least {needed:g}s",
        )
    for instance in fleet.instances:
        if health.port is not None and instance.publish and health.port not in instance.publish.values():
            raise RolloutError(
                f"instance {instance.name}: health asks port {health.port}, which it does not publish",
                f"publish it, e.g. publish: {{18080: {health.port}}}",
            )


def _runs(running: Release | None, release: Release) -> bool:
    return running is not None and running.config_digest == release.config_digest
