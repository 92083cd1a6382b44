"""What the checks of this suite share."""

from __future__ import annotations

import pytest

from certify.nodes.node import Node


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every check here is about a machine with a datasource."""
    for item in items:
        if item.path.parent.name == "cloudinit" and item.path.parent.parent.name == "certify_suites":
            item.add_marker(pytest.mark.platform("vm", "metal"))


@pytest.fixture
def cloud_node(node: Node) -> Node:
    """The node, if cloud-init is in the image."""
    if not node.run("command -v cloud-init").ok:
        pytest.skip("the image has no cloud-init")
    return node
