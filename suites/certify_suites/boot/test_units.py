"""systemd's own view of the boot."""

from __future__ import annotations

import re
from typing import Any

import pytest

from certify.nodes.node import Node
from certify_suites.scan import unlisted

pytestmark = pytest.mark.needs("systemd")


def _failed(node: Node) -> list[str]:
    return [line.split()[0] for line in node.run("systemctl list-units --failed --plain --no-legend --full").lines]


def test_system_is_running(node: Node) -> None:
    """ "degraded" means that something an operator will need has not started."""
    assert node.run("systemctl is-system-running").text == "running"


def test_no_failed_unit(node: Node, settings: dict[str, Any]) -> None:
    """A unit that fails on a test node fails on every machine."""
    assert unlisted(_failed(node), settings["failed_units_allowed"]) == []


def test_target_is_reached(node: Node, settings: dict[str, Any]) -> None:
    """The boot must end where services run, not in a rescue shell."""
    assert node.run(f"systemctl is-active {settings['target']}").text == "active"


def test_default_target(node: Node, settings: dict[str, Any]) -> None:
    """The default target decides what the next boot starts."""
    assert node.run("systemctl get-default").text == settings["target"]


def test_no_job_is_pending(node: Node) -> None:
    """A job that never ends holds up everything ordered after it."""
    assert node.run("systemctl list-jobs --no-legend").lines == []


def test_no_unit_restarts_again_and_again(node: Node) -> None:
    """A service that systemd keeps restarting looks active whenever one looks."""
    text = node.run("systemctl show -p Id -p NRestarts '*.service'").text
    pairs = re.findall(r"^(?:NRestarts=(\d+)\nId=(\S+)|Id=(\S+)\nNRestarts=(\d+))$", text, re.MULTILINE)
    counts = {(a[1] or a[2]): int(a[0] or a[3]) for a in pairs}
    ours = "certify-shell@"  # the interpreters that checks run over, where they are units
    assert {unit: count for unit, count in counts.items() if count and not unit.startswith(ours)} == {}


def test_enabled_services_run(node: Node, settings: dict[str, Any]) -> None:
    """What is enabled and does not run was meant to run."""
    files = node.run("systemctl list-unit-files --type=service --state=enabled --plain --no-legend").lines
    names = [n for n in (line.split()[0] for line in files) if "@." not in n]
    shown = node.run(f"systemctl show -p Id -p ActiveState -p Type -p ConditionResult {' '.join(names)}").text
    bad = []
    for block in shown.split("\n\n") if names else []:
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        excused = unit.get("Type") == "oneshot" or unit.get("ConditionResult") == "no"
        if unit.get("ActiveState") not in ("active", "reloading") and not excused:
            bad.append(unit.get("Id", block))
    assert unlisted(bad, settings["not_running_allowed"]) == []


def test_no_missing_unit_is_wanted(node: Node) -> None:
    """A dangling enablement link is a service that was renamed or removed and is missed."""
    broken = node.run("find /etc/systemd/system -xtype l ! -lname /dev/null 2>/dev/null").lines
    assert broken == []


def test_process_1_is_the_init(node: Node) -> None:
    """Zombies are reaped and signals understood only when process 1 is an init."""
    assert node.run("cat /proc/1/comm").text in ("systemd", "init")
