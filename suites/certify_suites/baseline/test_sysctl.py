"""Kernel settings: what the image asks for, and, where it has a kernel of its own, what is in force."""

from __future__ import annotations

from typing import Any

import pytest

from certify.nodes.node import Node

_FILES = "cat /usr/lib/sysctl.d/*.conf /usr/local/lib/sysctl.d/*.conf /etc/sysctl.d/*.conf /etc/sysctl.conf 2>/dev/null"


@pytest.mark.control("CIS-DEB12-3.3")
def test_declared_sysctls_are_safe(system: Node, settings: dict[str, Any]) -> None:
    """A sysctl.d file from an old howto quietly turns a protection off (the last assignment counts)."""
    pairs = (line.partition("=") for line in system.run(_FILES).lines if not line.lstrip().startswith(("#", ";")))
    declared = {key.strip().lstrip("-").replace("/", "."): value.strip() for key, equals, value in pairs if equals}
    assert {k: v for k, v in declared.items() if v in settings["sysctl_weak"].get(k, ())} == {}


@pytest.mark.platform("vm", "metal")
@pytest.mark.control("CIS-DEB12-1.5.1")
def test_running_sysctls_are_safe(system: Node, settings: dict[str, Any]) -> None:
    """What is configured counts only when it is in force; a container shows its host's kernel, so not there."""
    running = system.facts.sysctls
    assert {k: running[k] for k, weak in settings["sysctl_weak"].items() if running.get(k) in weak} == {}
