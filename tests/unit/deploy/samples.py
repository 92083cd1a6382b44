"""Plans and an in-memory fleet for tests."""

from __future__ import annotations

from dataclasses import dataclass, field

from certify.deploy.plan import Plan, PlannedInstance, Release
from certify.errors import EngineUnavailable, RolloutError
from certify.images.candidate import ImageSource

OLD = Release(digest="sha256:" + "1" * 64, config_digest="sha256:" + "1" * 64, resource_uri="docker-daemon:old")
NEW = Release(
    digest="sha256:" + "2" * 64, config_digest="sha256:" + "2" * 64, resource_uri="docker-daemon:new", serial=2
)


def plan(count: int = 3, *, previous: Release | None = OLD) -> Plan:
    instances = tuple(
        PlannedInstance(name=f"web-{i}", previous=previous, changes=previous != NEW) for i in range(count)
    )
    return Plan(fleet="web", channel="staging", product="app", release=NEW, instances=instances)


@dataclass
class MemoryFleet:
    """Implements ``FleetDriver`` in memory. ``fail`` and ``unknown`` name verb and instance of the calls that go wrong."""

    serving: dict[str, Release | None]
    fail: set[tuple[str, str]] = field(default_factory=set)
    unknown: set[tuple[str, str]] = field(default_factory=set)
    proofs: set[str] = field(default_factory=set)
    held: dict[str, Release | None] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)

    def _called(self, verb: str, name: str) -> str:
        self.calls.append((verb, name))
        if (verb, name) in self.unknown:
            self.unknown.discard((verb, name))
            raise EngineUnavailable("does not answer")
        if (verb, name) in self.fail:
            raise RolloutError("broken")
        return "done"

    def running(self, instance: str) -> Release | None:
        return self.serving.get(instance)

    def provision(self, instance: PlannedInstance, source: ImageSource, release: Release) -> str:
        self.proofs.add(instance.name)
        return self._called("provision", instance.name)

    def validate(self, instance: PlannedInstance, release: Release) -> str:
        assert instance.name in self.proofs
        return self._called("validate", instance.name)

    def admit(self, instance: PlannedInstance, release: Release) -> str:
        if self.serving.get(instance.name) != release:
            self.held[instance.name] = self.serving.get(instance.name)
            self.serving[instance.name] = release
        self.proofs.discard(instance.name)
        return self._called("admit", instance.name)

    def soak(self, instance: PlannedInstance, release: Release) -> str:
        assert self.serving[instance.name] == release
        return self._called("soak", instance.name)

    def restore(self, instance: PlannedInstance, release: Release) -> str:
        self.proofs.discard(instance.name)
        told = self._called("restore", instance.name)
        self.serving[instance.name] = instance.previous
        self.held.pop(instance.name, None)
        return told

    def decommission(self, instance: PlannedInstance, release: Release) -> str:
        self.held.pop(instance.name, None)
        return self._called("decommission", instance.name)
