"""What several files of this suite read."""

from __future__ import annotations

import pytest

from certify.nodes.node import Node


@pytest.fixture
def system(node: Node) -> Node:
    """The node, for checks that only mean something where there are accounts and an os-release."""
    if not node.facts.os_release and not node.facts.users:
        pytest.skip("the image holds a program only, no operating system")
    return node


@pytest.fixture
def shadow(system: Node) -> dict[str, list[str]]:
    """shadow(5): fields by user."""
    try:
        text = system.read("/etc/shadow").decode("utf-8", "replace")
    except FileNotFoundError:
        pytest.skip("the image has no /etc/shadow")
    return {fields[0]: fields for line in text.splitlines() if len(fields := line.split(":")) >= 2}


@pytest.fixture
def sshd(system: Node) -> dict[str, str]:
    """sshd's effective settings, lower case, as ``sshd -T`` prints them."""
    if not system.run_many(["command -v sshd || test -x /usr/sbin/sshd"])[0].ok:
        pytest.skip("the image has no ssh server")
    answer = system.run_many(["mkdir -p /run/sshd; $(command -v sshd || echo /usr/sbin/sshd) -T"])[0]
    assert answer.ok, f"sshd does not accept its configuration: {answer.stderr.decode('utf-8', 'replace')}"
    pairs = (line.partition(" ") for line in answer.lines)
    return {key.lower(): value.strip().lower() for key, _, value in pairs}
