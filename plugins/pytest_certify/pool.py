"""The nodes of a run: booted side by side, within a memory budget, kept as long as the isolation asks.

Shared nodes (isolation ``run``) and those of destructive checks start booting at the beginning, as many as fit. Anything
else is booted when a check asks for it; when memory is short, idle nodes make room first and are booted again if needed.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from certify.config import Images
from certify.errors import CertifyError, EngineUnavailable, GuestFailed, NodeLost
from certify.evidence.run import FAILED, NO_VERDICT, PASSED
from certify.images.files import ImageFiles
from certify.models import seconds, size_bytes
from certify.nodes.facts import Facts
from certify.nodes.node import Node, ShellSettings
from certify.nodes.platform import FROM_CACHE, NodeSpec, Platform
from certify.nodes.root import PROOF, require_root
from pytest_certify.targets import PlannedTarget

_AT_ONCE = 8
Key = tuple[str, str]


@dataclass(frozen=True)
class ColdBoot:
    """How one more boot from the beginning went, for a target whose nodes came from an earlier run's memory snapshot.

    ``outcome`` is passed, failed (the image is at fault) or no-verdict; ``seconds`` until it was ready.
    """

    target: str
    outcome: str
    reason: str = ""
    seconds: float = 0.0


@dataclass
class Booting:
    """A node on its way, or there. ``status`` says what is being waited for, since ``started`` (monotonic)."""

    target: PlannedTarget
    spec: NodeSpec
    future: Future[Node]
    started: float
    shared: bool = True
    status: str = "waiting"
    ready_after: float = 0.0


class Keeper(Protocol):
    """What a pool tells of its nodes, and what it is told to do with them."""

    #: Given every node's console as it is written; None where nobody looks.
    watch: Callable[[bytes], None] | None

    def retire(self, booting: Booting) -> bool:
        """Keep what a node's evidence is, before it goes; True leaves the node running."""
        ...

    def keep_console(self, node: str, console: bytes) -> None:
        """Of a node that never was one for checks, the console is all there is."""
        ...

    def claims_cold(self, node: str) -> bool:
        """Whether it is this process that proves the cold boot called ``node``."""
        ...


class NodePool:
    """Owns every node of one process of a run."""

    def __init__(self, run_id: str, budget: int, keeper: Keeper, *, strict: bool = False, worker: str = "") -> None:
        self._run_id = run_id
        self._strict = strict
        self._budget = budget
        self._worker = worker
        self._executor = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="certify-boot")
        self._nodes: dict[Key, Booting] = {}
        self._platforms: dict[int, Platform] = {}
        self._counter = itertools.count(1)
        self._cold: dict[str, Future[ColdBoot]] = {}
        self._claimed: set[str] = set()
        self._files: dict[str, Future[ImageFiles]] = {}
        self.facts: dict[str, Facts] = {}
        self.retired: list[Booting] = []
        self.kept: list[Booting] = []
        self.left: list[str] = []
        self._keeper = keeper
        self._over = False

    def prepare(self, targets: Iterable[PlannedTarget]) -> None:
        """Begin what needs no decision yet: images into their engines. An error shows again when a node is booted."""
        for target in targets:
            self._platforms[id(target.platform)] = target.platform
            self._executor.submit(target.platform.prepare, target.source, self._run_id, lambda _: None)

    def start(self, wanted: Iterable[tuple[Key, PlannedTarget]]) -> None:
        """Begin booting nodes that checks will ask for, as many as the budget and the processors hold."""
        for key, target in itertools.islice(wanted, _AT_ONCE):
            if self._fits(target) or not self._nodes:
                self._begin(key, target)

    def get(
        self,
        target: PlannedTarget,
        key: Key,
        waiting: Callable[[Booting], None],
        *,
        beside: Key | None = None,
        **how: Any,
    ) -> Node:
        """The node of ``key``, booting it if need be, as the NodeSpec fields in ``how`` ask. ``waiting`` is called about
        five times a second meanwhile; the node ``beside`` is in use and stays.

        Raises what booting raised, each time it is asked for again.
        """
        if key not in self._nodes:
            self._make_room(target, beside)
            self._begin(key, target, **how)
        booting = self._nodes[key]
        while not booting.future.done():
            waiting(booting)
            wait([booting.future], 0.2)
        node = booting.future.result()
        if node.how.details.get("snapshot") == FROM_CACHE and target.id not in self._claimed:
            self._claimed.add(target.id)
            if self._keeper.claims_cold(_cold_name(target)):
                self._cold[target.id] = self._executor.submit(self._boot_cold, target)
        if node.lost:
            raise NodeLost(node.lost, "its console log is in the evidence")
        return node

    def files(self, target: PlannedTarget, limits: Images) -> Future[ImageFiles]:
        """The files of a target's image, being read; begun once, beside whatever else goes on."""
        digest = target.candidate.digest
        if digest not in self._files:
            self._files[digest] = self._executor.submit(target.source.files, limits)
        return self._files[digest]

    def peek(self, key: Key) -> Node | None:
        """The node of ``key`` if it is up, without waiting."""
        booting = self._nodes.get(key)
        up = booting is not None and booting.future.done() and not booting.future.cancelled()
        return booting.future.result() if booting and up and booting.future.exception() is None else None

    def release(self, key: Key) -> None:
        """Take the node of ``key`` away, unless the run keeps it."""
        booting = self._nodes.pop(key, None)
        if booting is not None:
            self._retire(booting)

    def release_target(self, target_id: str) -> None:
        """No more checks come for this target."""
        for key, booting in list(self._nodes.items()):
            if booting.target.id == target_id:
                self.release(key)

    def cold_boots(self, waiting: Callable[[str], None]) -> list[ColdBoot]:
        """How the cold boots beside the restored nodes went; waits for them, telling ``waiting`` which."""
        for target, future in self._cold.items():
            while not future.done():
                waiting(target)
                wait([future], 0.2)
        return [future.result() for future in self._cold.values()]

    def close(self) -> None:
        """Take every node away, and what the platforms made for the run. Boots under way end at their next word."""
        self._over = True
        remaining = [self._nodes.pop(key) for key in list(self._nodes)]
        try:
            list(self._executor.map(self._retire, remaining))
        finally:
            self._executor.shutdown(wait=True, cancel_futures=True)
            for read in self._files.values():
                if not read.cancelled() and read.exception() is None:
                    read.result().close()
            for platform in (
                self._platforms.values() if not self.kept else ()
            ):  # kept nodes use what was made for the run
                self._tidy(partial(platform.close, self._run_id))

    def _tidy(self, action: Callable[[], None]) -> None:
        """Clean up; what cannot be cleaned up is said, and left for `certify gc`."""
        try:
            action()
        except CertifyError as error:
            self.left.append(error.message)

    def _begin(self, key: Key, target: PlannedTarget, **how: Any) -> None:
        suffix = "" if key[0] == "run" else f"-{next(self._counter)}"
        name = re.sub(r"[^a-zA-Z0-9_.-]", "-", f"{target.id}{suffix}{self._worker and '-' + self._worker}")
        self._platforms[id(target.platform)] = target.platform
        booting = Booting(
            target,
            NodeSpec(self._run_id, name, watch=self._keeper.watch, **how),
            Future(),
            time.monotonic(),
            key[0] == "run",
        )
        self._nodes[key] = booting
        booting.future = self._executor.submit(self._boot, booting)

    def _boot(self, booting: Booting) -> Node:
        def progress(status: str) -> None:
            if self._over:
                raise EngineUnavailable("the run ended while it was booting")
            booting.status = status

        machine = booting.target.platform.boot(booting.target.source, booting.spec, progress)
        booting.ready_after = time.monotonic() - booting.started
        try:
            node = Node(machine, booting.target.candidate, booting.spec, self._shell(booting.target.platform))
            require_root(node.run(PROOF))
        except CertifyError as error:
            error.console = machine.console()
            self._tidy(machine.remove)
            raise
        if self._is_shared(booting):
            self._executor.submit(self._gather_facts, booting.target.id, node)
        return node

    def _shell(self, platform: Platform) -> ShellSettings:
        settings = platform.settings
        return ShellSettings(seconds(settings.command_timeout), size_bytes(settings.output_limit), self._strict)

    def _boot_cold(self, target: PlannedTarget) -> ColdBoot:
        """No verdict rests on a memory snapshot alone: the image must still boot from the beginning."""
        spec = NodeSpec(self._run_id, _cold_name(target), cold=True)
        started = time.monotonic()
        try:
            machine = target.platform.boot(target.source, spec, lambda _: None)
        except GuestFailed as error:
            self._keeper.keep_console(spec.node_id, error.console)
            return ColdBoot(target.id, FAILED, error.message)
        except CertifyError as error:
            return ColdBoot(target.id, NO_VERDICT, error.message)
        self._keeper.keep_console(spec.node_id, machine.console())
        self._tidy(machine.remove)
        return ColdBoot(target.id, PASSED, seconds=round(time.monotonic() - started, 3))

    def _gather_facts(self, target: str, node: Node) -> None:
        """Gather facts beside the first checks: evidence wants them anyway, and as they were before any check."""
        with suppress(CertifyError):  # raised again for whoever asks for them
            self.facts.setdefault(target, node.facts)

    def _is_shared(self, booting: Booting) -> bool:
        return self._nodes.get(("run", booting.target.id)) is booting

    def _make_room(self, target: PlannedTarget, beside: Key | None) -> None:
        for other in [k for k in self._nodes if k != beside]:
            if self._fits(target):
                return
            if self._within_budget(target) and self._nodes[other].target.platform is not target.platform:
                continue  # its place would not help: it is of another platform
            self.release(other)
        if not self._has_place(target):
            raise EngineUnavailable(
                f"{target.platform.name} has {target.platform.nodes_at_once} node, and this check needs one more beside it",
                "add nodes to its inventory, or leave the check out with -k",
            )

    def _fits(self, target: PlannedTarget) -> bool:
        return self._within_budget(target) and self._has_place(target)

    def _has_place(self, target: PlannedTarget) -> bool:
        most = target.platform.nodes_at_once
        return most is None or sum(b.target.platform is target.platform for b in self._nodes.values()) < most

    def _within_budget(self, target: PlannedTarget) -> bool:
        return self._used() + self._cost(target) <= self._budget

    def _used(self) -> int:
        return sum(self._cost(booting.target) for booting in self._nodes.values())

    @staticmethod
    def _cost(target: PlannedTarget) -> int:
        return target.platform.memory_needed(target.candidate)

    def _retire(self, booting: Booting) -> None:
        self.retired.append(booting)
        if booting.future.cancel():
            return
        try:
            node = booting.future.result()
        except CertifyError as error:
            self._keeper.keep_console(booting.spec.node_id, error.console)  # the checks that asked have been told
            return
        kept = False
        try:
            kept = self._keeper.retire(booting)
        finally:
            if kept:
                self.kept.append(booting)
            else:
                self._tidy(node.remove)


def _cold_name(target: PlannedTarget) -> str:
    return re.sub(r"[^a-zA-Z0-9_.-]", "-", f"{target.id}-cold")


def boot_facts(retired: list[Booting]) -> dict[str, dict[str, Any]]:
    """How each target was booted (its first node that was not asked to be another way), as plain data."""
    found: dict[str, dict[str, Any]] = {}
    for booting in sorted(retired, key=lambda b: b.spec.cold or bool(b.spec.firmware or b.spec.user_data)):
        if not booting.future.cancelled() and booting.future.exception() is None:
            how = booting.future.result().how
            found.setdefault(booting.target.id, {"boot": how.boot, "details": how.details})
    return found
