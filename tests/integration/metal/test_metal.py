"""Whole runs on a node of the lab: written, booted, proven, checked, cleaned."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from certify.nodes.inventory import MetalNode, load_inventory
from certify_redfish.bmc import Bmc
from tests.images.builder import load
from tests.images.disk import build_disk
from tests.integration.conftest import Workspace, wait_for
from tests.integration.vm.test_machines import suite

LONG = 900


@pytest.fixture(scope="session")
def base() -> Path:
    return build_disk(load("disk-cloud"))


@pytest.fixture
def metal(work: Workspace, lab_nodes: Path) -> Workspace:
    """A workspace whose metal nodes are the lab's."""
    work.write("certify.yaml", f"platforms: {{metal: {{nodes: {lab_nodes}, clean: none}}}}\n")
    return work


def power(node: MetalNode) -> str:
    bmc = Bmc("metal-1", node)
    bmc.connect()
    return bmc.power()


def test_a_disk_is_written_booted_and_proven(metal: Workspace, base: Path, node: MetalNode) -> None:
    """From off to checked, by what a stranger would type; the second time only what differs travels."""
    text = """
def test_it(node):
    assert node.run("id -u").text == "0"
    assert len(node.run("head -c 300000 /dev/zero").stdout) == 300000
    assert node.run("echo out; echo err >&2; exit 3").status == 3
    told = node.how.details["installer"]
    assert told["verified"] == told["total"] and told["memory"] < 256 * 1024**2
    assert told["installer"]["up"] < 60
    assert node.run("lsblk -dno SERIAL /dev/vda").text == told["disk"]["serial"] == "root"
"""
    done = metal.pytest("--image", str(base), "--platform", "metal", "--suite", suite(metal, text), timeout=LONG)
    assert done.status == 0, done.out
    assert power(node) == "Off"


@pytest.mark.slow
def test_the_metal_suite(metal: Workspace, base: Path) -> None:
    done = metal.pytest("--image", str(base), "--platform", "metal", "--suite", "metal", timeout=LONG)
    assert done.status == 0, done.out
    assert set(metal.outcomes().values()) <= {"passed", "skipped"}


@pytest.mark.slow
def test_a_killed_run_is_gone_on_with(metal: Workspace, base: Path, lab_nodes: Path, node: MetalNode) -> None:
    """SIGKILL in the middle of the write: the next run takes the node and fetches only what is missing."""
    name = suite(metal, "def test_it(node):\n    print('FETCHED', node.how.details['installer']['fetched'])\n")
    arguments = ("--image", str(base), "--platform", "metal", "--suite", name, "-s")
    process = metal.start("pytest", *arguments)
    wait_for(lambda: "proven, 2" in (metal.path / "out.log").read_text(), "a part of the write", 300)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = metal.pytest(*arguments, timeout=LONG)
    assert done.status == 0, done.out
    fetched = int(done.out.partition("FETCHED ")[2].split()[0])
    assert fetched < 350, done.out


def test_a_node_of_another_identity_is_left_alone(work: Workspace, lab_nodes: Path, base: Path) -> None:
    inventory = lab_nodes.read_text().replace(
        load_inventory(lab_nodes).nodes["metal-1"].uuid or "?", "0" * 8 + "-0000-0000-0000-" + "0" * 12
    )
    inventory = inventory.replace("system: /redfish/v1/Systems/00000000-0000-0000-0000-000000000000\n", "labels: {}\n")
    work.write("nodes.yaml", inventory)
    done = work.certify("doctor", "--metal", "nodes.yaml")
    assert done.status == 1
    assert "nodes.yaml says" in done.text


def test_doctor_asks_every_bmc_and_changes_nothing(work: Workspace, lab_nodes: Path) -> None:
    done = work.certify("doctor", "--metal", str(lab_nodes))
    assert done.status == 0, done.text
    assert "ok" in done.out
    assert "metal-1" in done.out
    assert "boots from" in done.out


def test_no_inventory_is_said_before_anything_boots(work: Workspace, base: Path) -> None:
    done = work.pytest("--image", str(base), "--platform", "metal", "--suite", "baseline")
    assert done.status == 4
    assert "there is no nodes.yaml" in done.text
