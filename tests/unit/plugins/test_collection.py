"""The order of planned checks, on items that are made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from certify.testing.local import FakeSource, LocalPlatform
from pytest_certify import collection
from pytest_certify.targets import PlannedTarget


def item(name: str, target: PlannedTarget | None, *, own: bool = False) -> Any:
    params = {collection.TARGET_FIXTURE: target} if target else {}
    return SimpleNamespace(name=name, own=own, callspec=SimpleNamespace(params=params))


def test_own_nodes_come_last_where_there_is_one_node() -> None:
    scarce, plenty = LocalPlatform(), LocalPlatform()
    scarce.nodes_at_once = 1
    one, many = PlannedTarget("one", FakeSource("a"), scarce), PlannedTarget("many", FakeSource("a"), plenty)
    items = [
        item("a", one), item("b", one, own=True), item("c", one), item("d", many, own=True), item("e", None, own=True),
        item("f", many), item("g", one, own=True),
    ]  # fmt: skip
    collection.own_nodes_last(items, lambda item: item.own)
    assert "".join(each.name for each in items) == "acdefbg"
