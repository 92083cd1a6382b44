"""Time: somebody keeps it right."""

from __future__ import annotations

import time
from typing import Any

import pytest

from certify.nodes.node import Node

_SERVICES = ("systemd-timesyncd", "chronyd", "chrony", "ntpd", "ntp", "ntpsec", "openntpd")


@pytest.mark.needs("systemd")
def test_time_is_synchronised(node: Node) -> None:
    """Certificates, logs and quorums fail on a machine whose clock drifts."""
    answers = node.run_many([f"systemctl is-active {name}" for name in _SERVICES])
    assert [name for name, answer in zip(_SERVICES, answers, strict=True) if answer.text == "active"] != []


def test_clock_is_right(node: Node, settings: dict[str, Any]) -> None:
    """The clock comes from the hardware; an image that sets its own time at boot breaks it."""
    before = time.time()
    told = float(node.run("date +%s.%N").text)
    assert before - settings["clock_seconds"] <= told <= time.time() + settings["clock_seconds"]
