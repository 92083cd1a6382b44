"""A lab of the tests' own: one node, started once, gone at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from certify_metal.bmc.redfish import RedfishBmc
from certify_metal.host.inventory import MetalNode, load_inventory
from tests.integration.metal.proxy import Proxy
from tests.labs import running_lab


@pytest.fixture(scope="session")
def lab_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The inventory of a running lab."""
    with running_lab(tmp_path_factory.mktemp("lab") / "nodes.yaml") as inventory:
        yield inventory


@pytest.fixture
def node(lab_nodes: Path) -> MetalNode:
    return load_inventory(lab_nodes).nodes["metal-1"]


@pytest.fixture
def clean_node(node: MetalNode) -> MetalNode:
    """The node, off and without media."""
    bmc = RedfishBmc("metal-1", node)
    bmc.connect()
    bmc.ensure_off(30)
    bmc.ensure_ejected(30)
    return node


@pytest.fixture
def through(clean_node: MetalNode) -> Iterator[Callable[..., tuple[RedfishBmc, Proxy]]]:
    """Makes a proxy with a rule, and a driver that speaks to it."""
    with ExitStack() as stack:

        def make(rule: Any = None, **changes: Any) -> tuple[RedfishBmc, Proxy]:
            proxy = stack.enter_context(Proxy(clean_node))
            if rule is not None:
                proxy.rule = rule
            given = msgspec.structs.replace(clean_node.bmc, address=proxy.address, ca=None)
            return RedfishBmc("metal-1", msgspec.structs.replace(clean_node, bmc=given, **changes)), proxy

        yield make
