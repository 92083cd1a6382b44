"""Two nodes' facts compared."""

from __future__ import annotations

from dataclasses import replace

from certify.nodes.facts import Facts, Socket, Unit, User
from certify.nodes.parity import compare, report

FACTS = Facts(
    os_release={"ID": "debian"},
    packages={"ssh": "1"},
    units={"ssh.service": Unit("loaded", "active", "running")},
    users={"root": User(0, 0, "/root", "/bin/sh")},
    mounts=(),
    sockets=(Socket("tcp", "0.0.0.0", 22, 0),),
    sysctls={"kernel.x": "1"},
    kernel="6.1",
    boot_id="a",
    config_files={"/etc/x": "0" * 64},
)


def test_the_same_is_no_difference() -> None:
    assert compare(FACTS, replace(FACTS, boot_id="b")) == []


def test_every_kind_is_compared() -> None:
    other = Facts({}, {"ssh": "2"}, {}, {}, (), (), {"kernel.x": "2"}, "6.2", "b", {"/etc/y": "1" * 64})
    kinds = [difference.kind for difference in compare(FACTS, other)]
    assert sorted(set(kinds)) == sorted(
        ["os", "packages", "config_files", "users", "units", "sockets", "sysctls", "kernel"]
    )
    assert kinds.count("config_files") == 2


def test_an_allowed_difference_is_told_as_allowed() -> None:
    other = replace(FACTS, packages={"ssh": "2"}, kernel="6.2")
    found = compare(FACTS, other, ["kernel:*"])
    assert [(d.kind, d.left, d.right, d.allowed) for d in found] == [
        ("packages", "1", "2", False),
        ("kernel", "6.1", "6.2", True),
    ]
    document = report(("a", "b"), found)
    assert document["differences"][0] == {
        "kind": "packages",
        "name": "ssh",
        "left": "1",
        "right": "2",
        "allowed": False,
    }
