"""What cloud-init says of itself."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from certify.nodes.node import Node


def test_cloud_init_is_done(cloud_node: Node) -> None:
    """ "running" for ever is a machine that never becomes ready; "disabled" one that nobody configures."""
    told = cloud_node.run("cloud-init status --wait").text
    assert "status: done" in told


def test_cloud_init_met_no_errors(cloud_node: Node) -> None:
    """cloud-init goes on after errors, and says them only here."""
    result = json.loads(cloud_node.read("/run/cloud-init/result.json"))["v1"]
    assert result["errors"] == []


def test_datasource_is_the_one_given(cloud_node: Node, settings: dict[str, Any]) -> None:
    """A machine that falls back to no datasource boots, and has no keys, no users and no name."""
    result = json.loads(cloud_node.read("/run/cloud-init/result.json"))["v1"]
    assert settings["datasource"] in result["datasource"].lower()


def test_no_warning_in_the_log(cloud_node: Node, settings: dict[str, Any]) -> None:
    """Deprecated or unknown keys are warnings today and errors with the next release."""
    allowed = [re.compile(pattern) for pattern in settings["warnings_allowed"]]
    lines = cloud_node.run("grep -hE 'WARNING|ERROR|CRITICAL' /var/log/cloud-init.log").lines
    assert [line for line in lines if not any(pattern.search(line) for pattern in allowed)] == []


@pytest.mark.needs("systemd")
def test_cloud_init_is_enabled(cloud_node: Node) -> None:
    """The next instance is configured by the same services."""
    services = ("cloud-init-local", "cloud-init", "cloud-config", "cloud-final")
    answers = cloud_node.run_many([f"systemctl is-enabled {name}" for name in services])
    assert [name for name, answer in zip(services, answers, strict=True) if answer.text != "enabled"] == []
