"""The ``metal`` platform: implements :class:`certify.nodes.platform.Platform`.

A node is leased, written by the installer, booted, proven, and must come back to its disk once more before anything runs on it.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from certify.config import Images
from certify.images.candidate import Candidate, ImageSource
from certify.images.store import Store
from certify.models import seconds
from certify.nodes.platform import NodeSpec, Progress
from certify_metal.host.inventory import Inventory, load_inventory
from certify_metal.host.leases import Leases
from certify_metal.host.machine import MetalMachine
from certify_metal.host.placer import Placer, as_disk
from certify_metal.settings import MetalSettings


class MetalPlatform:
    """Boots disk candidates on the nodes of an inventory. One per run."""

    name = "metal"
    driver = "metal"

    def __init__(self, settings: MetalSettings, images: Images) -> None:
        self.settings = settings
        self._store = Store(Path(images.store))
        self._placer = Placer(settings, self._store)

    def why_not(self, candidate: Candidate) -> str | None:
        if candidate.kind != "disk":
            return f"metal boots disk images, and this is {candidate.kind}; build a disk of it"
        if not Path(self.settings.nodes).exists():
            return f"there is no {self.settings.nodes}; write one, or try `certify lab up`"
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
        return load_inventory(Path(self.settings.nodes))

    def prepare(self, source: ImageSource, run_id: str, progress: Progress) -> None:
        del run_id
        self._placer.prepare(source, progress)

    def boot(self, source: ImageSource, spec: NodeSpec, progress: Progress) -> MetalMachine:
        self.prepare(source, spec.run_id, progress)
        progress("waiting for a free node")
        nodes = self._inventory.nodes
        identities = [(name, node.identity) for name, node in nodes.items()]
        lease = Leases(self._store.folder("leases")).take(identities, seconds(self.settings.lease_timeout))
        try:
            return self._placer.place(as_disk(source), lease, nodes[lease.node], progress, user_data=spec.user_data)
        except BaseException:
            lease.release()
            raise

    def close(self, run_id: str) -> None:
        del run_id
        self._placer.close()
