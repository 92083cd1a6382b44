"""What several files of this suite read."""

from __future__ import annotations

import pytest

from certify.nodes.node import Node
from certify_suites.scan import Scan, scan


@pytest.fixture
def scanned(node: Node) -> Scan:
    """Every file as the node shows it."""
    return scan(node, None)
