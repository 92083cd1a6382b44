"""The ``metal`` platform by Redfish: implements :class:`certify.nodes.platform.Platform`.

A node is leased, written by the installer, booted, proven, and must come back to its disk once more before anything runs on it.
"""

from __future__ import annotations

import secrets
import socket
import threading
import time
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from certify.config import Images, MetalPlatform, seconds
from certify.errors import CertifyError, EngineUnavailable, UsageError
from certify.images.candidate import Candidate, ImageSource
from certify.images.store import Store
from certify.nodes.inventory import Inventory, MetalNode, load_inventory
from certify.nodes.lease import Lease, Leases
from certify.nodes.platform import MachineFacts, NodeSpec, Progress
from certify_disk.raw import raw_disk
from certify_disk.transport import DiskSource
from certify_redfish.bmc import Bmc
from certify_redfish.controller import Attempt, Controller
from certify_redfish.image import Medium, medium
from certify_redfish.install import Work, boot_from_disk, hosts, run_installer
from certify_redfish.keys import RunKeys, make_keys
from certify_redfish.machine import MetalMachine
from certify_redfish.seed import metal_seed


class RedfishPlatform:
    """Boots disk candidates on the nodes of an inventory. One per run."""

    name = "metal"
    driver = "redfish"

    def __init__(self, settings: MetalPlatform, images: Images) -> None:
        self._settings = settings
        self._store = Store(Path(images.store))
        self._lock = threading.Lock()
        self._controllers: dict[str, Controller] = {}

    # -- what it can -----------------------------------------------------------------------------------------------

    def why_not(self, candidate: Candidate) -> str | None:
        if self._settings.driver != self.driver:
            return f"platforms.metal.driver is {self._settings.driver!r}; the installed driver is {self.driver!r}"
        if candidate.kind != "disk":
            return f"metal boots disk images, and this is {candidate.kind}; `certify convert` makes a disk"
        if not Path(self._settings.nodes).exists():
            return f"there is no {self._settings.nodes}; write one, or try `certify lab up`"
        _ = self._inventory  # raises for a mistake in it, before anything is booted
        return None

    def offers(self, candidate: Candidate) -> frozenset[str]:
        del candidate
        return frozenset({"systemd", "reboot", "kernel", "network"})

    def memory_needed(self, candidate: Candidate) -> int:
        del candidate
        return 0

    @property
    def nodes_at_once(self) -> int:
        return len(self._inventory.nodes)

    @cached_property
    def _inventory(self) -> Inventory:
        return load_inventory(Path(self._settings.nodes))

    @cached_property
    def _keys(self) -> RunKeys:
        return make_keys()

    @cached_property
    def _medium(self) -> Medium:
        return medium(self._store)

    # -- booting ---------------------------------------------------------------------------------------------------

    def prepare(self, source: ImageSource, run_id: str, progress: Progress) -> None:
        del run_id
        with self._lock:
            _ = self._inventory
            raw_disk(self._store, _disk(source), progress)
            progress("preparing the installer")
            _ = self._medium

    def boot(self, source: ImageSource, spec: NodeSpec, progress: Progress) -> MetalMachine:
        self.prepare(source, spec.run_id, progress)
        progress("waiting for a free node")
        lease = self._lease()
        try:
            return self._boot(_disk(source), spec, lease, progress)
        except BaseException:
            lease.release()
            raise

    def _lease(self) -> Lease:
        nodes = [
            (name, node.uuid or f"{node.bmc.address} {node.serial}") for name, node in self._inventory.nodes.items()
        ]
        return Leases(self._store.folder("leases")).take(nodes, seconds(self._settings.lease_timeout))

    def _boot(self, source: DiskSource, spec: NodeSpec, lease: Lease, progress: Progress) -> MetalMachine:
        began = time.monotonic()
        node = self._inventory.nodes[lease.node]
        progress(f"asking the BMC of {lease.node}")
        bmc = Bmc(lease.node, node)
        bmc.connect()
        before = bmc.critical_events()
        controller = self._controller(node)
        disk, manifest = raw_disk(self._store, source, progress)
        attempt = Attempt(self._medium, disk=disk, manifest=manifest)
        seed = self._seed(source, spec, bmc, controller, attempt)
        report = run_installer(bmc, controller, attempt, Work("write", seed), self._settings, progress)
        written = time.monotonic()
        facts = self._facts(bmc, lease, report)
        expected = {"digest": source.candidate.digest, "serial": str(report["disk"]["serial"])}

        def cleanup() -> None:
            try:
                self._clean(bmc, controller)
            finally:
                controller.drop(attempt)
                lease.release()

        machine = MetalMachine(bmc, attempt, facts, self._settings, expected=expected, cleanup=cleanup)
        controller.add(attempt)
        try:
            progress("booting from its disk")
            boot_from_disk(bmc, self._settings)
            machine.wait_ready()
            proven = time.monotonic()
            progress("booting from its disk once more")
            machine.restart()
            after = bmc.critical_events()
        except BaseException as error:
            error.console = machine.console()  # type: ignore[attr-defined]
            machine.remove()
            raise
        facts.details.update(
            events=None if after is None else sorted(after - (before or set())),
            write_seconds=round(written - began, 3),
            ready_seconds=round(proven - began, 3),
            second_boot_seconds=round(time.monotonic() - proven, 3),
        )
        return machine

    def _seed(self, source: DiskSource, spec: NodeSpec, bmc: Bmc, controller: Controller, attempt: Attempt) -> bytes:
        host, _ = hosts(bmc, controller)
        config = {
            "host": host,
            "port": controller.ports[2],
            "token": attempt.guest_token,
            "certificate": controller.keys.certificate,
            "digest": source.candidate.digest,
        }
        instance = f"certify-{secrets.token_hex(6)}"
        return metal_seed(config, instance=instance, hostname=bmc.name, user_data=spec.user_data or self._user_data())

    def _user_data(self) -> bytes:
        if self._settings.user_data is None:
            return b""
        try:
            return Path(self._settings.user_data).read_bytes()
        except OSError as error:
            raise UsageError(f"platforms.metal.user_data: {error.strerror}", "check the path") from None

    def _facts(self, bmc: Bmc, lease: Lease, report: dict[str, Any]) -> MachineFacts:
        details = {"node": lease.node, "bmc": bmc.facts(), "labels": bmc.node.labels, "installer": report}
        return MachineFacts(self.name, self.driver, "cold", {**details, "exchanges": bmc.exchanges})

    def _clean(self, bmc: Bmc, controller: Controller) -> None:
        """As the policy says, and off. A node that cannot be cleaned is said so, and left off if that is possible."""
        if self._settings.clean == "none":
            bmc.ensure_off(seconds(self._settings.bmc_timeout))
            return
        run_installer(
            bmc, controller, Attempt(self._medium), Work(self._settings.clean), self._settings, lambda _: None
        )

    def _controller(self, node: MetalNode) -> Controller:
        address = self._settings.listen or _route_to(node)
        with self._lock:
            if address not in self._controllers:
                self._controllers[address] = Controller(address, self._keys)
            return self._controllers[address]

    def close(self, run_id: str) -> None:
        del run_id
        for controller in self._controllers.values():
            controller.close()
        self._controllers.clear()


def _disk(source: ImageSource) -> DiskSource:
    if not isinstance(source, DiskSource):
        raise CertifyError(f"{source.candidate.reference} is no disk image", "metal boots disk images")
    return source


def _route_to(node: MetalNode) -> str:
    """This host's address on the way to the node's BMC."""
    address = urlsplit(node.bmc.address)
    host, port = address.hostname or "", address.port or 443
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(where)  # a datagram socket sends nothing: it only picks the address
            return str(probe.getsockname()[0])
    except OSError as error:
        raise EngineUnavailable(f"{host}: {error.strerror}", "check bmc.address in nodes.yaml") from None
