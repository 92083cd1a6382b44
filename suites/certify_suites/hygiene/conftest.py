"""What several files of this suite read."""

from __future__ import annotations

import pytest

from certify.images.files import ImageFiles
from certify.nodes.node import Node
from certify_suites.scan import Scan, scan


@pytest.fixture
def scanned(node: Node, image_files: ImageFiles | None) -> Scan:
    """Every file of the image, read where it lies, and what the node shows beyond."""
    return scan(node, image_files)
