"""Rollouts on metal: implements :class:`certify.deploy.driver.DeployDriver`. An instance is a node of the inventory.

There is no second machine to boot beside the old one, so a node is replaced in place: its root disk is written (only what
differs travels), its data disks are kept, and what boots must prove itself. Going back is writing the previous image again.
A note beside the leases says what was put on a node and how far that went; it is written before acting.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import msgspec

from certify.config import Config, Fleet, Images
from certify.deploy.health import ask, wait_healthy, watch
from certify.deploy.plan import PlannedInstance, Release
from certify.errors import RolloutError
from certify.files import write_whole
from certify.images.candidate import ImageSource
from certify.images.reference import parse
from certify.images.store import Store
from certify.models import seconds
from certify_disk.transport import DiskTransport
from certify_metal.bmc.drivers import bmc_of
from certify_metal.bmc.interface import Bmc
from certify_metal.host.inventory import Inventory, MetalNode, load_inventory
from certify_metal.host.leases import Leases
from certify_metal.host.placer import Placer, as_disk
from certify_metal.settings import MetalSettings


class _Note(msgspec.Struct, frozen=True):
    """What was put on a node. ``proven`` once it booted and proved itself, ``serves`` once it was admitted."""

    release: Release
    proven: bool = False
    serves: bool = False


class MetalDeployDriver:
    """``driver: metal`` in ``fleet.yaml``; an instance's name is its node's, its ``host`` where health is asked."""

    name = "metal"

    def bind(self, fleet: Fleet, config: Config) -> MetalFleet:
        settings = fleet.section("metal", MetalSettings())
        nodes = load_inventory(Path(settings.nodes))
        unknown = [instance.name for instance in fleet.instances if instance.name not in nodes.nodes]
        if unknown:
            raise RolloutError(f"fleet {fleet.fleet}: {settings.nodes} has no node {unknown[0]!r}", "name its nodes")
        return MetalFleet(fleet, nodes, config.images)


class MetalFleet:
    """Implements :class:`certify.deploy.driver.FleetDriver`."""

    def __init__(self, fleet: Fleet, inventory: Inventory, images: Images) -> None:
        self._fleet = fleet
        self._settings = fleet.section("metal", MetalSettings())
        self._images = images
        self._nodes = inventory.nodes
        self._hosts = {instance.name: instance.host for instance in fleet.instances}
        self._store = Store(Path(images.store))

    @cached_property
    def _placer(self) -> Placer:
        return Placer(self._settings, self._store)

    def running(self, instance: str) -> Release | None:
        note = self._read(instance)
        return note.release if note is not None and note.serves and self._bmc(instance).power() == "On" else None

    def provision(self, instance: PlannedInstance, source: ImageSource, release: Release) -> str:
        note = self._read(instance.name)
        if note is not None and note.proven and note.release.digest == release.digest:
            return f"{release.digest[:19]} is there and was proven"
        return self._put(instance.name, source, release)

    def validate(self, instance: PlannedInstance, release: Release) -> str:
        note = self._read(instance.name)
        if note is None or not note.proven or note.release.digest != release.digest:
            raise RolloutError(f"{instance.name} has not proven that it runs {release.digest[:19]}")
        return f"proved its digest; {self._healthy(instance.name, wait_healthy)}"

    def admit(self, instance: PlannedInstance, release: Release) -> str:
        self._write(instance.name, _Note(release, proven=True, serves=True))
        return "serves, in the old one's place"

    def soak(self, instance: PlannedInstance, release: Release) -> str:
        del release
        return self._healthy(instance.name, watch)

    def restore(self, instance: PlannedInstance, release: Release) -> str:
        del release
        previous = instance.previous
        if previous is None:
            self._bmc(instance.name).ensure_off(seconds(self._settings.bmc_timeout))
            self._path(instance.name).unlink(missing_ok=True)
            return "switched off; nothing ran here before"
        source = DiskTransport(self._images).open(parse(previous.resource_uri))
        if source.candidate.digest != previous.digest:
            raise RolloutError(f"{previous.resource_uri} is no longer {previous.digest}", "deploy it from its channel")
        told = self._put(instance.name, source, previous)
        self._write(instance.name, _Note(previous, proven=True, serves=True))
        return f"back: {told}; {self._healthy(instance.name, wait_healthy)}"

    def decommission(self, instance: PlannedInstance, release: Release) -> str:
        del instance, release
        return "replaced in place: nothing is left of the old one"

    def _put(self, name: str, source: ImageSource, release: Release) -> str:
        """Write, boot and prove. Killed in between, the note says that nothing is known to run here."""
        self._write(name, _Note(release))
        node = self._node(name)
        lease = Leases(self._store.folder("leases")).take(
            [(name, node.identity)], seconds(self._settings.lease_timeout)
        )
        try:
            self._placer.prepare(source, lambda _: None)
            machine = self._placer.place(as_disk(source), lease, node, lambda _: None, stays=True)
        except BaseException:
            lease.release()
            raise
        report = machine.facts.details["installer"]
        machine.remove()
        self._placer.close()
        self._write(name, _Note(release, proven=True))
        return f"{release.digest[:19]} written ({report['fetched']} of {report['total']} chunks travelled) and proven"

    def _healthy(self, name: str, how: Callable[..., int]) -> str:
        """Ask for health where the node serves, if a port is named; that it is on in any case. Raises RolloutError."""
        bmc = self._bmc(name)

        def still_there() -> None:
            if bmc.power() == "Off":
                raise RolloutError(f"{name} is switched off")

        host, port = self._hosts[name], self._fleet.health.port
        if host is None or port is None:
            still_there()
            return "it is on"
        samples = how(lambda: ask(host, port, self._fleet.health), self._fleet.health, still_there)
        return f"healthy in {samples} samples"

    def _bmc(self, name: str) -> Bmc:
        bmc = bmc_of(name, self._node(name))
        bmc.connect()
        return bmc

    def _node(self, name: str) -> MetalNode:
        if name not in self._nodes:
            raise RolloutError(f"{self._settings.nodes} has no node {name!r}", "name its nodes")
        return self._nodes[name]

    def _path(self, name: str) -> Path:
        return self._store.folder(f"fleets/{self._fleet.fleet}") / f"{name}.json"

    def _read(self, name: str) -> _Note | None:
        path = self._path(name)
        return msgspec.json.decode(path.read_bytes(), type=_Note) if path.exists() else None

    def _write(self, name: str, note: _Note) -> None:
        write_whole(self._path(name), msgspec.json.encode(note))
