"""What the checks of this suite share."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every check here is about a machine of its own."""
    for item in items:
        if item.path.parent.name == "vm" and item.path.parent.parent.name == "certify_suites":
            item.add_marker(pytest.mark.platform("vm", "metal"))
