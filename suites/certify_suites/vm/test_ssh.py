"""ssh, as it is offered to the network."""

from __future__ import annotations

import pytest

from certify.nodes.node import Node


def test_ssh_is_hardened(node: Node) -> None:
    """Keys only, never root, never an empty password."""
    answer = node.run("mkdir -p /run/sshd; $(command -v sshd || echo /usr/sbin/sshd) -T")
    if not answer.ok:
        pytest.skip("the image has no ssh server")
    told = dict(line.split(" ", 1) for line in answer.lines if " " in line)
    wanted = {"permitrootlogin": "no", "passwordauthentication": "no", "permitemptypasswords": "no"}
    assert {name: told.get(name) for name in wanted} == wanted
