"""The node pool, on nodes that are this host's ``sh``: side by side, within the budget, and never left behind."""

from __future__ import annotations

import time

import pytest

from certify.errors import BootFailed, EvidenceError, NodeLost
from certify.nodes.node import ShellSettings
from pytest_certify.pool import Booting, NodePool
from pytest_certify.targets import PlannedTarget
from tests.fakes import FakeSource, LocalPlatform


def target(platform: LocalPlatform, name: str = "a") -> PlannedTarget:
    return PlannedTarget(name, FakeSource(name), platform)


def pool_of(budget: int = 10_000) -> NodePool:
    return NodePool("run", ShellSettings(timeout=10), budget)


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
    platform, pool = LocalPlatform(), pool_of()

    def full(booting: Booting) -> bool:
        raise EvidenceError("disk full")

    pool.on_retire = full
    pool.get(target(platform), ("run", "a"), quiet)
    with pytest.raises(EvidenceError):
        pool.close()
    assert [machine.removed for machine in platform.machines] == [1]
    assert platform.closed == 1


def test_kept_nodes_stay() -> None:
    platform, pool = LocalPlatform(), pool_of()
    pool.on_retire = lambda _: True
    pool.get(target(platform), ("run", "a"), quiet)
    pool.close()
    assert [machine.removed for machine in platform.machines] == [0]
    assert len(pool.kept) == 1
    assert platform.closed == 0
    platform.machines[0].remove()
