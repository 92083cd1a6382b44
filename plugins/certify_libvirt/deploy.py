"""Rollouts on libvirt hosts: implements :class:`certify.deploy.driver.DeployDriver`.

An instance is one persistent domain on a disk overlay over the release's uploaded image. The new domain boots beside the
old one and is proven on a port of its own; admitting moves the published ports over, which takes no reboot. The old one
runs on, unreachable, until it is decommissioned, so going back is moving the ports again.
"""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu

from certify.config import Config, Fleet, Instance
from certify.deploy.health import Sight, ask, steadily, wait_healthy, watch
from certify.deploy.plan import PlannedInstance, Release
from certify.errors import RolloutError
from certify.images.candidate import ImageSource
from certify.images.store import Store
from certify.models import size_bytes
from certify.nodes.platform import NodeSpec
from certify_libvirt.domain import Profile, domain_xml, marks_xml
from certify_libvirt.hypervisor import Hypervisor, connect, marks_of, translated
from certify_libvirt.pool_disks import PoolDisks, node_volumes, remove_volumes
from certify_libvirt.settings import VmSettings

_NAMESPACE = "https://certify.dev/fleet"
_HMP = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
_PROOF, _SERVING, _HELD = "proof", "serving", "held"


class LibvirtDeployDriver:
    """``driver: libvirt`` in ``fleet.yaml``; an instance's ``host`` is a libvirt URI (default ``qemu:///system``)."""

    name = "libvirt"

    def bind(self, fleet: Fleet, config: Config) -> LibvirtFleet:
        if fleet.health.port is None:
            raise RolloutError(
                f"fleet {fleet.fleet}: health.port is not set", "machines are proven by asking a port they serve"
            )
        return LibvirtFleet(fleet, Store(Path(config.images.store)))


class LibvirtFleet:
    """Implements :class:`certify.deploy.driver.FleetDriver`."""

    def __init__(self, fleet: Fleet, store: Store) -> None:
        self._fleet = fleet
        self._settings = fleet.section("vm", VmSettings())
        self._store = store
        self._instances = {instance.name: instance for instance in fleet.instances}
        self._hypervisors: dict[str, Hypervisor] = {}

    def running(self, instance: str) -> Release | None:
        for domain, marks in self._domains(instance):
            if marks["role"] == _SERVING and domain.isActive():
                return _release(marks)
        return None

    def provision(self, instance: PlannedInstance, source: ImageSource, release: Release) -> str:
        found = self._find(instance.name, release)
        if found is None:
            self._create(instance.name, source, release)
        elif not found[0].isActive():
            with translated(RolloutError):
                found[0].create()
        return f"{release.digest[:19]} boots beside the old one"

    def validate(self, instance: PlannedInstance, release: Release) -> str:
        return f"runs its digest, healthy {self._watched(instance.name, release, wait_healthy)} times"

    def admit(self, instance: PlannedInstance, release: Release) -> str:
        self._move_ports(instance.name, release)
        samples = self._watched(instance.name, release, wait_healthy)
        return f"serves, healthy {samples} times; the old one is held"

    def soak(self, instance: PlannedInstance, release: Release) -> str:
        return f"healthy in {self._watched(instance.name, release, watch)} samples"

    def restore(self, instance: PlannedInstance, release: Release) -> str:
        previous = instance.previous
        if previous is not None:
            if self._find(instance.name, previous) is None:
                raise RolloutError(f"the machine of {previous.digest[:19]} is gone", "deploy it again from its channel")
            self._move_ports(instance.name, previous)
        self._remove(instance.name, lambda marks: marks["digest"] == release.digest)
        if previous is None:
            return "removed; nothing ran here before"
        samples = self._watched(instance.name, previous, wait_healthy)
        return f"back on {previous.digest[:19]}, healthy {samples} times"

    def decommission(self, instance: PlannedInstance, release: Release) -> str:
        return f"{self._remove(instance.name, lambda marks: marks['digest'] != release.digest)} held machines removed"

    # -- domains ---------------------------------------------------------------------------------------------------

    def _create(self, name: str, source: ImageSource, release: Release) -> None:
        settings, hypervisor = self._settings, self._hypervisor(name)
        disks = PoolDisks(hypervisor, self._store, settings)
        kernel, initrd = disks.kernel(source)
        firmware = settings.firmware[0] if settings.firmware[0] != "auto" else disks.firmware(source)[0]
        kvm = settings.acceleration == "kvm" or (settings.acceleration == "auto" and _offers_kvm(hypervisor))
        profile = Profile(
            acceleration="kvm" if kvm else "tcg",
            firmware=firmware,
            memory=size_bytes(settings.memory),
            cpus=settings.cpus,
            nics=max(1, settings.nics),
            network="user",
            kernel=kernel,
            initrd=initrd,
            cmdline=settings.cmdline if kernel else "",
        )
        title = f"certify-{self._fleet.fleet}-{name}-{release.digest[7:19]}"
        port = _free_port(hypervisor)
        files = disks.make(source, Path(f"n{secrets.token_hex(4)}"), profile, NodeSpec(self._fleet.fleet, name))
        assert self._fleet.health.port is not None
        files = replace(files, forwards={port: self._fleet.health.port}, listen=hypervisor.listen)
        marks = {
            "fleet": self._fleet.fleet, "instance": name, "digest": release.digest, "uri": release.resource_uri,
            "role": _PROOF, "port": str(port), "serial": str(release.serial),
        }  # fmt: skip
        with translated(RolloutError):
            domain = hypervisor.connection.defineXML(
                domain_xml(title, profile, files, marks_xml("instance", _NAMESPACE, marks))
            )
            try:
                domain.create()
            except libvirt.libvirtError:  # nothing of it stays: its port may be what was wrong with it
                self._undo(hypervisor, domain)
                raise

    @staticmethod
    def _undo(hypervisor: Hypervisor, domain: Any) -> None:
        disks = node_volumes(domain)
        with suppress(libvirt.libvirtError):
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
            remove_volumes(hypervisor.connection, disks)

    def _mark(self, domain: Any, marks: dict[str, str]) -> None:
        flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG | (libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0)
        element = marks_xml("instance", "", marks)  # libvirt adds the namespace itself
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, element, "certify", _NAMESPACE, flags)

    def _domains(self, name: str) -> list[tuple[Any, dict[str, str]]]:
        found = []
        with translated():
            domains = self._hypervisor(name).connection.listAllDomains(0)
        for domain in domains:
            marks = marks_of(domain, _NAMESPACE)
            if (marks.get("fleet"), marks.get("instance")) == (self._fleet.fleet, name):
                found.append((domain, marks))
        return found

    def _find(self, name: str, release: Release) -> tuple[Any, dict[str, str]] | None:
        return next(((d, m) for d, m in self._domains(name) if m["digest"] == release.digest), None)

    def _remove(self, name: str, which: Any) -> int:
        gone_now = 0
        for domain, marks in self._domains(name):
            if which(marks):
                disks = node_volumes(domain)
                with translated(RolloutError):
                    if domain.isActive():
                        domain.destroy()
                    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)
                remove_volumes(self._hypervisor(name).connection, disks)
                gone_now += 1
        return gone_now

    # -- ports -----------------------------------------------------------------------------------------------------

    def _move_ports(self, name: str, release: Release) -> None:
        """Publish the instance's ports on the release's machine, and on no other. Repeating it does nothing."""
        target = self._find(name, release)
        if target is None:
            raise RolloutError("its machine was removed by somebody else")
        for domain, marks in self._domains(name):
            if marks["digest"] != release.digest and marks["role"] == _SERVING:
                self._forward(domain, "hostfwd_remove", self._instances[name], self._hypervisor(name))
                self._mark(domain, {**marks, "role": _HELD})
        if target[1]["role"] != _SERVING:
            self._forward(target[0], "hostfwd_add", self._instances[name], self._hypervisor(name))
            with translated(RolloutError):
                self._mark(target[0], {**target[1], "role": _SERVING})
                target[0].setAutostart(True)

    @staticmethod
    def _forward(domain: Any, command: str, instance: Instance, hypervisor: Hypervisor) -> None:
        for outside, inside in instance.publish.items():
            rule = f"net0 tcp:{hypervisor.listen}:{outside}" + (f"-:{inside}" if command == "hostfwd_add" else "")
            with translated(RolloutError):
                said = libvirt_qemu.qemuMonitorCommand(domain, f"{command} {rule}", _HMP)
            if command == "hostfwd_add" and said.strip():
                raise RolloutError(
                    f"port {outside} cannot be published: {said.strip()[:200]}", "is it taken by somebody else?"
                )

    # -- proof -----------------------------------------------------------------------------------------------------

    def _watched(self, name: str, release: Release, how: Any) -> int:
        """Ask for health on the machine's own port while it is seen to run the digest."""

        def look() -> Sight:
            found = self._find(name, release)
            if found is None:
                return Sight(release.digest, "its machine is gone")
            domain, marks = found
            return Sight(marks["digest"], "" if domain.isActive() else "its machine has ended", domain.ID())

        still_there = steadily(look, release.digest)
        found = self._find(name, release)
        assert found is not None
        host, port = self._hypervisor(name).host, int(found[1]["port"])
        samples: int = how(lambda: ask(host, port, self._fleet.health), self._fleet.health, still_there)
        return samples

    def _hypervisor(self, name: str) -> Hypervisor:
        uri = self._instances[name].host or "qemu:///system"
        if uri not in self._hypervisors:
            self._hypervisors[uri] = connect(uri, self._store)
        return self._hypervisors[uri]


def _offers_kvm(hypervisor: Hypervisor) -> bool:
    with translated():
        return "<domain type='kvm'" in hypervisor.connection.getCapabilities()


def _release(marks: dict[str, str]) -> Release:
    return Release(
        digest=marks["digest"], config_digest=marks["digest"], resource_uri=marks["uri"], serial=int(marks["serial"])
    )


def _free_port(hypervisor: Hypervisor) -> int:
    """A port for the machine's own health; of another host any of the dynamic ones (RFC 6335, 6), as it cannot be asked."""
    if hypervisor.listen != "127.0.0.1":
        return 49152 + secrets.randbelow(65536 - 49152)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
