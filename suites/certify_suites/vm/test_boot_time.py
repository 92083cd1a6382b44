"""How long a boot takes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from certify.nodes.node import Node

_PART = re.compile(r"(?:(\d+)min )?([\d.]+)(ms|s) \((\w+)\)")


@pytest.mark.needs("systemd")
def test_boot_is_within_its_budget(node: Node, settings: dict[str, Any]) -> None:
    """Every second of a boot is paid at each scale-out and each repair. The budget is for the time from the kernel's end on,
    stretched by how much slower guests run on this host."""
    told = node.run("systemd-analyze time").text
    spent = {
        name: int(m or 0) * 60 + float(n) / (1000 if unit == "ms" else 1) for m, n, unit, name in _PART.findall(told)
    }
    assert "userspace" in spent, told
    allowed = settings["boot_budget_seconds"] * float(node.how.details.get("patience", 1))
    slowest = node.run("systemd-analyze blame --no-pager").lines[:3]
    assert spent["userspace"] <= allowed, f"slowest: {'; '.join(line.strip() for line in slowest)}"
