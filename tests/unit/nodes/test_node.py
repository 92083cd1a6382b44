"""A node: commands, files, transcript, strict mode, and what is said when it is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certify.errors import GuestFailed, NodeLost, StrictMismatch
from certify.nodes.node import Node, ShellSettings
from certify.nodes.platform import NodeSpec
from certify.testing.local import FakeSource, LocalMachine


def node_on(machine: LocalMachine, *, strict: bool = False) -> Node:
    return Node(machine, FakeSource().candidate, NodeSpec("run", "n1"), ShellSettings(timeout=10, strict=strict))


@pytest.fixture
def machine() -> Iterator[LocalMachine]:
    machine = LocalMachine()
    yield machine
    machine.remove()


def test_files_are_read_byte_for_byte(machine: LocalMachine, tmp_path: Path) -> None:
    (tmp_path / "it's a file").write_bytes(b"\x00\xff\n")
    assert node_on(machine).read(f"{tmp_path}/it's a file") == b"\x00\xff\n"


def test_a_missing_file_is_an_error(machine: LocalMachine) -> None:
    with pytest.raises(FileNotFoundError, match="No such file"):
        node_on(machine).read("/nowhere")


def test_the_transcript_tells_what_was_run(machine: LocalMachine) -> None:
    node = node_on(machine)
    node.run("echo first")
    before = node.commands
    node.run("echo second; exit 4")
    told = node.transcript_since(before)
    assert "$ echo second; exit 4\nsecond\n[status 4" in told
    assert "first" not in told


def test_a_dead_node_is_no_verdict_and_says_why(machine: LocalMachine) -> None:
    node = node_on(machine)
    machine.dead = "its container was removed"
    for channel in machine.channels:
        channel.close()
    with pytest.raises(NodeLost, match="n1: its container was removed"):
        node.run("true")
    assert node.lost


def test_a_guest_that_panicked_has_failed_and_is_not_merely_lost(machine: LocalMachine) -> None:
    node = node_on(machine)
    machine.dead, machine.at_fault = "the kernel panicked", True
    for channel in machine.channels:
        channel.close()
    with pytest.raises(GuestFailed, match="n1: the kernel panicked"):
        node.run("true")


@pytest.mark.parametrize("how", ["reboot", "power_cycle"])
def test_another_boot_forgets_what_was_known(machine: LocalMachine, how: str) -> None:
    node = node_on(machine)
    node.extras["scan"] = "of the old boot"
    getattr(node, how)()
    assert node.extras == {}
    assert node.run("echo on").text == "on"


def test_a_restart_makes_new_facts(machine: LocalMachine) -> None:
    node = node_on(machine)
    first = node.facts
    assert node.facts is first
    node.reboot()
    assert node.facts is not first


def test_strict_mode_finds_an_answer_that_differs(machine: LocalMachine) -> None:
    node = node_on(machine, strict=True)
    assert node.run("echo same").ok
    with pytest.raises(StrictMismatch, match="gave status 0"):
        node.run("date +%N")
