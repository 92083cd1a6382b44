"""Puts a disk candidate on a metal node and has it prove itself there: what runs and rollouts share."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from contextlib import ExitStack
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from certify.errors import CertifyError, EngineUnavailable
from certify.images.candidate import ImageSource
from certify.images.store import Store
from certify.models import seconds
from certify.nodes.platform import MachineFacts, Progress
from certify_disk.seed import read_user_data
from certify_disk.transport import DiskSource
from certify_metal.bmc import console
from certify_metal.bmc.drivers import bmc_of
from certify_metal.bmc.interface import Bmc
from certify_metal.host.controller import Attempt, Controller
from certify_metal.host.fitness import check_fitness
from certify_metal.host.image import BootMedium, medium
from certify_metal.host.install import Work, boot_from_disk, hosts, run_installer
from certify_metal.host.inventory import MetalNode
from certify_metal.host.keys import RunKeys, make_keys
from certify_metal.host.leases import Lease
from certify_metal.host.machine import MetalMachine
from certify_metal.host.raw import raw_disk
from certify_metal.host.seed import metal_seed
from certify_metal.settings import MetalSettings


class Placer:
    """One per run or rollout: its keys and servers live as long. Several threads may place side by side."""

    def __init__(self, settings: MetalSettings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._lock = threading.Lock()
        self._controllers: dict[str, Controller] = {}

    @cached_property
    def _keys(self) -> RunKeys:
        return make_keys()

    @cached_property
    def _medium(self) -> BootMedium:
        return medium(self._store)

    def prepare(self, source: ImageSource, progress: Progress) -> None:
        """Make what is made once per image, and the installer. Repeating it costs nothing. Raises ImageInvalid too."""
        with self._lock:
            check_fitness(as_disk(source))
            raw_disk(self._store, as_disk(source), progress)
            progress("preparing the installer")
            _ = self._medium

    def place(
        self, source: DiskSource, lease: Lease, node: MetalNode, progress: Progress, *, stays: bool = False,
        user_data: bytes = b"",
    ) -> MetalMachine:  # fmt: skip
        """Write, boot, prove, boot again. The lease goes back when the machine is removed, or at once on failure.

        A machine that ``stays`` is left running when it is removed, and its image forgets this run. Raises as
        :meth:`certify.nodes.platform.Platform.boot`.
        """
        progress(f"asking the BMC of {lease.node}")
        bmc = bmc_of(lease.node, node)
        bmc.connect()
        lines = ExitStack()
        try:
            bmc.console = lines.enter_context(console.opened(bmc.node.console, bmc.console_to))
            return self._placed(source, lease, bmc, progress, (stays, user_data), lines)
        except BaseException as error:
            if isinstance(error, CertifyError):
                error.console = bmc.console.text()
            lines.close()
            raise

    def _placed(
        self, source: DiskSource, lease: Lease, bmc: Bmc, progress: Progress, how: tuple[bool, bytes], lines: ExitStack
    ) -> MetalMachine:
        began, before = time.monotonic(), bmc.critical_events()
        controller = self._controller(bmc.node)
        attempt = Attempt(self._medium, disk=raw_disk(self._store, source, progress))
        seed = self._seed(source, bmc, controller, attempt, how)
        report = run_installer(bmc, controller, attempt, Work("write", seed), self._settings, progress)
        written = time.monotonic()
        facts = self._facts(bmc, lease, report)

        def cleanup() -> None:
            try:
                if not (how[0] and "ready_seconds" in facts.details):
                    self._clean(bmc, controller)
            finally:
                lines.close()
                controller.drop(attempt)
                lease.release()

        expected = {"digest": source.candidate.digest, "serial": str(report["disk"]["serial"])}
        machine = MetalMachine(bmc, attempt, facts, self._settings, expected=expected, cleanup=cleanup)
        controller.add(attempt)
        try:
            progress("booting from its disk")
            boot_from_disk(bmc, self._settings)
            machine.wait_ready(lambda: progress("booting from its disk"))
            proven, ready = machine.proven_at, time.monotonic()
            progress("booting from its disk once more")
            machine.restart()
            after = bmc.critical_events()
        except BaseException:
            machine.remove()
            raise
        facts.details.update(
            events=None if after is None else sorted(after - (before or set())),
            write_seconds=round(written - began, 3),
            proven_seconds=round(proven - began, 3),
            ready_seconds=round(ready - began, 3),
            second_boot_seconds=round(time.monotonic() - ready, 3),
        )
        return machine

    def close(self) -> None:
        """End the servers."""
        for controller in self._controllers.values():
            controller.close()
        self._controllers.clear()

    def _seed(
        self, source: DiskSource, bmc: Bmc, controller: Controller, attempt: Attempt, how: tuple[bool, bytes]
    ) -> bytes:
        stays, given = how
        user_data = given or read_user_data(self._settings.user_data, "platforms.metal.user_data")
        host, _ = hosts(bmc, controller)
        config: dict[str, Any] = {
            "host": host,
            "port": controller.ports[2],
            "token": attempt.guest_token,
            "certificate": controller.keys.certificate,
            "digest": source.candidate.digest,
            "give_up": seconds(self._settings.boot_timeout) if stays else None,
        }
        instance = f"certify-{secrets.token_hex(6)}"
        return metal_seed(config, instance=instance, hostname=bmc.name, user_data=user_data)

    @staticmethod
    def _facts(bmc: Bmc, lease: Lease, report: dict[str, Any]) -> MachineFacts:
        details = {"node": lease.node, "bmc": bmc.facts(), "labels": bmc.node.labels, "installer": report}
        return MachineFacts("metal", "metal", "cold", {**details, "exchanges": bmc.exchanges})

    def _clean(self, bmc: Bmc, controller: Controller) -> None:
        """As the policy says, and off. A node that cannot be cleaned is said so."""
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


def as_disk(source: ImageSource) -> DiskSource:
    """The source, if it is a disk. Raises CertifyError."""
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
