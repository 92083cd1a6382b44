"""What several files of this suite read."""

from __future__ import annotations

import pytest

from certify.errors import Unanswered
from certify.images.files import ImageFiles
from certify.nodes.node import Node

_SYSTEM = ("/etc/passwd", "/etc/os-release", "/usr/lib/os-release")


@pytest.fixture
def system(node: Node, image_files: ImageFiles | None) -> Node:
    """The node, for checks that only mean something where there are accounts and an os-release."""
    shown = node.facts.os_release or node.facts.users
    if not shown and image_files is not None and any(image_files.content(path) for path in _SYSTEM):
        raise Unanswered("the image has accounts and an os-release, and its node shows none", "see how it boots")
    if not shown:
        pytest.skip("the image holds a program only, no operating system")
    return node


@pytest.fixture
def shadow(system: Node) -> dict[str, list[str]]:
    """shadow(5): fields by user."""
    if not system.run("test -e /etc/shadow").ok:
        pytest.skip("the image has no /etc/shadow")
    text = system.read("/etc/shadow").decode("utf-8", "replace")
    return {fields[0]: fields for line in text.splitlines() if len(fields := line.split(":")) >= 2}


@pytest.fixture
def sshd(system: Node) -> dict[str, str]:
    """sshd's effective settings, lower case, as ``sshd -T`` prints them."""
    if not system.run("command -v sshd || test -x /usr/sbin/sshd").ok:
        pytest.skip("the image has no ssh server")
    answer = system.run("mkdir -p /run/sshd; $(command -v sshd || echo /usr/sbin/sshd) -T")
    assert answer.ok, f"sshd does not accept its configuration: {answer.stderr.decode('utf-8', 'replace')}"
    pairs = (line.partition(" ") for line in answer.lines)
    return {key.lower(): value.strip().lower() for key, _, value in pairs}
