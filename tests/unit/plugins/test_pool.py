"""The node pool, on nodes that are this host's ``sh``: side by side, within the budget, and never left behind."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from certify.errors import (
    BootFailed,
    CommandTimeout,
    EngineUnavailable,
    EvidenceError,
    GuestFailed,
    NodeLost,
    OutputLimit,
)
from certify.nodes.platform import FROM_CACHE, MachineFacts, PlatformSettings
from certify.testing.local import FakeSource, LocalPlatform
from pytest_certify.pool import Booting, NodePool
from pytest_certify.targets import PlannedTarget


def target(platform: LocalPlatform, name: str = "a") -> PlannedTarget:
    return PlannedTarget(name, FakeSource(name), platform)


class Keeper:
    """Remembers what it is told; ``keeps`` is its answer to every node that goes."""

    watch = None

    def __init__(self) -> None:
        self.keeps: Callable[[Booting], bool] = lambda _: False
        self.claims = True
        self.consoles: dict[str, bytes] = {}

    def retire(self, booting: Booting) -> bool:
        return self.keeps(booting)

    def keep_console(self, node: str, console: bytes) -> None:
        self.consoles[node] = console

    def claims_cold(self, node: str) -> bool:
        return self.claims


def pool_of(budget: int = 10_000, keeper: Keeper | None = None) -> NodePool:
    return NodePool("run", budget, keeper or Keeper())


def quiet(booting: Booting) -> None:
    return


def test_nodes_boot_side_by_side_and_all_go() -> None:
    platform, pool = LocalPlatform(delay=0.4), pool_of()
    targets = [target(platform, name) for name in "abcd"]
    started = time.monotonic()
    pool.start((("run", t.id), t) for t in targets)
    nodes = [pool.get(t, ("run", t.id), quiet) for t in targets]
    assert time.monotonic() - started < 1.5
    assert [node.run("echo on").text for node in nodes] == ["on"] * 4
    pool.close()
    assert [machine.removed for machine in platform.machines] == [1] * 4
    assert platform.closed == 1


def test_a_platforms_own_limits_hold_for_its_commands() -> None:
    platform, pool = LocalPlatform(), pool_of()
    platform.settings = PlatformSettings(command_timeout="200ms", output_limit="1KiB")
    node = pool.get(target(platform), ("run", "a"), quiet)
    with pytest.raises(CommandTimeout):
        node.run("sleep 5")
    with pytest.raises(OutputLimit):
        node.run("head -c 4096 /dev/zero | tr '\\0' x")
    pool.close()


def test_who_waits_is_told_what_for() -> None:
    platform, pool = LocalPlatform(delay=0.5), pool_of()
    seen: list[str] = []
    pool.get(target(platform), ("run", "a"), lambda booting: seen.append(booting.status))
    pool.close()
    assert "booting" in seen


def test_a_node_is_reused_until_it_is_released() -> None:
    platform, pool = LocalPlatform(), pool_of()
    first = pool.get(target(platform), ("run", "a"), quiet)
    assert pool.get(target(platform), ("run", "a"), quiet) is first
    pool.release(("run", "a"))
    assert pool.get(target(platform), ("run", "a"), quiet) is not first
    pool.close()


def test_a_small_budget_boots_one_after_the_other() -> None:
    platform, pool = LocalPlatform(), pool_of(budget=250)
    targets = [target(platform, name) for name in "abc"]
    pool.start((("run", t.id), t) for t in targets)
    for one in targets:
        pool.get(one, ("run", one.id), quiet)
        assert sum(not machine.removed for machine in platform.machines) <= 2
    pool.close()


def test_even_a_tiny_budget_allows_one_node_and_the_one_beside_it() -> None:
    platform, pool = LocalPlatform(), pool_of(budget=1)
    only = target(platform)
    node = pool.get(only, ("run", "a"), quiet)
    second = pool.get(only, ("second", "x"), quiet, beside=("run", "a"))
    assert node.run("echo on").text == second.run("echo on").text == "on"
    pool.close()


def test_a_platform_with_one_node_makes_room_for_the_next_check() -> None:
    platform, pool = LocalPlatform(), pool_of()
    platform.nodes_at_once = 1
    only, other = target(platform), target(LocalPlatform(), "b")
    pool.start([(("run", "a"), only), (("check", "x"), only), (("run", "b"), other)])
    pool.get(only, ("run", "a"), quiet)
    assert pool.get(only, ("check", "x"), quiet).run("echo on").text == "on"
    assert [machine.removed for machine in platform.machines] == [1, 0]
    assert pool.peek(("run", "b")) is not None
    with pytest.raises(EngineUnavailable, match="has 1 node, and this check needs one more"):
        pool.get(only, ("second", "x"), quiet, beside=("check", "x"))
    pool.close()


def test_a_failed_boot_is_told_to_everyone_who_asks() -> None:
    platform, pool = LocalPlatform(broken="never ready"), pool_of()
    for _ in range(2):
        with pytest.raises(BootFailed, match="never ready"):
            pool.get(target(platform), ("run", "a"), quiet)
    pool.close()


def test_a_lost_node_is_told_at_once() -> None:
    platform, pool = LocalPlatform(), pool_of()
    pool.get(target(platform), ("run", "a"), quiet).lost = "node a: gone"
    with pytest.raises(NodeLost, match="node a: gone"):
        pool.get(target(platform), ("run", "a"), quiet)
    pool.close()


def test_nodes_go_even_if_their_evidence_cannot_be_kept() -> None:
    keeper = Keeper()
    platform, pool = LocalPlatform(), pool_of(keeper=keeper)

    def full(booting: Booting) -> bool:
        raise EvidenceError("disk full")

    keeper.keeps = full
    pool.get(target(platform), ("run", "a"), quiet)
    with pytest.raises(EvidenceError):
        pool.close()
    assert [machine.removed for machine in platform.machines] == [1]
    assert platform.closed == 1


def test_kept_nodes_stay() -> None:
    keeper = Keeper()
    keeper.keeps = lambda _: True
    platform, pool = LocalPlatform(), pool_of(keeper=keeper)
    pool.get(target(platform), ("run", "a"), quiet)
    pool.close()
    assert [machine.removed for machine in platform.machines] == [0]
    assert len(pool.kept) == 1
    assert platform.closed == 0
    platform.machines[0].remove()


RESTORED = MachineFacts("vm", "fake", "restored", {"snapshot": FROM_CACHE})


@pytest.mark.parametrize(
    ("error", "outcome"), [(None, "passed"), (GuestFailed("panic"), "failed"), (BootFailed("no answer"), "no-verdict")]
)
def test_a_node_from_an_old_snapshot_brings_a_cold_boot_with_it(error: Exception | None, outcome: str) -> None:
    platform, pool = LocalPlatform(facts=RESTORED), pool_of()
    platform.cold = [error]
    for _ in range(2):
        pool.get(target(platform), ("run", "a"), quiet)
    found = pool.cold_boots(lambda _: None)
    pool.close()
    assert [(boot.target, boot.outcome, boot.reason) for boot in found] == [
        ("a", outcome, str(error or "").partition("\n")[0])
    ]
    assert all(machine.removed for machine in platform.machines)


def test_who_comes_second_proves_no_cold_boot() -> None:
    keeper = Keeper()
    keeper.claims = False
    platform, pool = LocalPlatform(facts=RESTORED), pool_of(keeper=keeper)
    pool.get(target(platform), ("run", "a"), quiet)
    assert pool.cold_boots(lambda _: None) == []
    pool.close()


def test_a_boot_that_failed_leaves_its_console() -> None:
    keeper = Keeper()
    platform, pool = LocalPlatform(broken="never came"), pool_of(keeper=keeper)
    with pytest.raises(BootFailed):
        pool.get(target(platform), ("run", "a"), quiet)
    pool.close()
    assert list(keeper.consoles) == ["a"]
