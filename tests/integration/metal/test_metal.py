"""Whole runs on a node of the lab: written, booted, proven, checked, cleaned."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path

import pytest
import yaml

from certify_metal.bmc.redfish import RedfishBmc
from certify_metal.host.inventory import MetalNode
from tests.images.builder import load
from tests.images.disk import build_disk
from tests.integration.conftest import Workspace, wait_for
from tests.integration.vm.test_machines import GOOD, suite

LONG = 900


@pytest.fixture(scope="session")
def base() -> Path:
    return build_disk(load("disk-base"))


@pytest.fixture
def metal(work: Workspace, lab_nodes: Path) -> Workspace:
    """A workspace whose metal nodes are the lab's."""
    work.write("certify.yaml", f"platforms: {{metal: {{nodes: {lab_nodes}, clean: none}}}}\n")
    return work


def power(node: MetalNode) -> str:
    bmc = RedfishBmc("metal-1", node)
    bmc.connect()
    return bmc.power()


def test_a_disk_is_written_booted_and_proven(metal: Workspace, base: Path, node: MetalNode) -> None:
    """From off to checked, by what a stranger would type."""
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
@pytest.mark.parametrize("dies", ["controller", "node"])
def test_a_cut_write_boots_nothing_and_is_gone_on_with(
    metal: Workspace, base: Path, clean_node: MetalNode, dies: str
) -> None:
    """SIGKILL, or a power cut, in the middle of the write: the next run takes the node and fetches only what is missing."""
    name = suite(metal, "def test_it(node):\n    print('FETCHED', node.how.details['installer']['fetched'])\n")
    arguments = ("--image", str(base), "--platform", "metal", "--suite", name, "-s")
    root = lab_folder(clean_node) / "root"
    with root.open("r+b") as file:
        file.truncate(0)
        file.truncate(8 * 1024**3)
    process = metal.start("pytest", *arguments)
    wait_for(lambda: root.stat().st_blocks * 512 > 200 * 1024**2, "a part of the write", 300)
    if dies == "node":
        bmc = RedfishBmc("metal-1", clean_node)
        bmc.connect()
        bmc.ensure_off(30)
        assert process.wait(120) == 6
        assert "it went off while the installer ran" in (metal.path / "out.log").read_text()
    else:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with root.open("rb") as file:
        assert not any(file.read(1024**2))
    done = metal.pytest(*arguments, timeout=LONG)
    assert done.status == 0, done.out
    fetched = int(done.out.partition("FETCHED ")[2].split()[0])
    assert fetched < 250, done.out


def lab_folder(node: MetalNode) -> Path:
    """Where the lab keeps the node's disks, as files."""
    assert node.console is not None
    return Path(node.console.removeprefix("file:")).parent


def disks_of(node: MetalNode) -> dict[str, str]:
    """Digests of the lab node's disks."""
    digests = {}
    for name in ("root", "data"):
        with (lab_folder(node) / name).open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


@pytest.mark.slow
def test_one_artifact_on_three_platforms(metal: Workspace, base: Path) -> None:
    """One verdict, and a report of where the three differ."""
    suites = ("--suite", "baseline", "--suite", "boot")
    done = metal.pytest("--image", str(base), "--platform", "container,vm,metal", *suites, timeout=1800)
    assert done.status == 0, done.out
    compared = json.loads((metal.path / ".certify/runs/latest/parity.json").read_text())["compared"]
    pairs = [(pair["left"].rpartition("-")[2], pair["right"].rpartition("-")[2]) for pair in compared]
    assert pairs == [("container", "vm"), ("container", "metal")]


@pytest.mark.slow
def test_a_node_is_replaced_in_place(metal: Workspace, base: Path, lab_nodes: Path, clean_node: MetalNode) -> None:
    """A rollout to one node: its root disk is written and proven, its data disk is what it was, and it runs on."""
    metal.write("base.qcow2", "").unlink()
    (metal.path / "base.qcow2").hardlink_to(base)
    metal.write(
        "certify.yaml", "product: machines\nchannels: {staging: {requires: {suites: [tiny], platforms: [vm]}}}\n"
    )
    metal.write("tiny/test_tiny.py", "def test_it(node):\n    assert node.run('true').ok\n")
    metal.write(
        "fleet.yaml",
        f"fleet: metal\nproduct: machines\ndriver: metal\nmetal: {{nodes: {lab_nodes}}}\ninstances: [{{name: metal-1}}]\n",
    )
    assert metal.certify("init").status == 0
    done = metal.pytest("--image", "base.qcow2", "--suite", "./tiny", "--sign", "--promote", "staging", timeout=LONG)
    assert done.status == 0, done.text
    before = disks_of(clean_node)["data"]
    done = metal.certify("deploy", "staging", "--fleet", "fleet.yaml", "--yes", timeout=LONG)
    assert done.status == 0, done.text
    assert power(clean_node) == "On"
    assert disks_of(clean_node)["data"] == before
    again = metal.certify("deploy", "staging", "--fleet", "fleet.yaml", "--yes", timeout=LONG)
    assert again.status == 0, again.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("selector", "told"), [("{serial: nothing}", "0 disks match"), ("{rotational: true}", "2 disks match")]
)
def test_not_exactly_one_root_disk_is_zero_writes(
    work: Workspace, base: Path, lab_nodes: Path, clean_node: MetalNode, selector: str, told: str
) -> None:
    inventory = lab_nodes.read_text().replace("root_disk:\n      serial: root", f"root_disk: {selector}")
    work.write("nodes.yaml", inventory)
    work.write("certify.yaml", "platforms: {metal: {clean: none}}\n")
    before = disks_of(clean_node)
    name = suite(work, "def test_it(node):\n    pass\n")
    done = work.pytest("--image", str(base), "--platform", "metal", "--suite", name, timeout=LONG)
    assert done.status == 6, done.out
    assert told in done.out
    assert disks_of(clean_node) == before
    assert power(clean_node) == "Off"


def test_a_node_of_another_identity_is_left_alone(work: Workspace, lab_nodes: Path) -> None:
    inventory = yaml.safe_load(lab_nodes.read_text())
    inventory["nodes"]["metal-1"]["uuid"] = "00000000-0000-0000-0000-000000000000"
    work.write("nodes.yaml", yaml.safe_dump(inventory))
    done = work.certify("doctor", "--metal", "nodes.yaml")
    assert done.status == 1
    assert "nodes.yaml says" in done.text


def test_doctor_asks_every_bmc_and_changes_nothing(work: Workspace, lab_nodes: Path) -> None:
    done = work.certify("doctor", "--metal", str(lab_nodes))
    assert done.status == 0, done.text
    assert "ok" in done.out
    assert "metal-1" in done.out
    assert "boots from" in done.out


def test_an_image_that_could_not_call_home_is_refused_before_a_node_is_touched(
    metal: Workspace, clean_node: MetalNode
) -> None:
    """disk-good boots everywhere and has no cloud-init."""
    disks = [lab_folder(clean_node) / name for name in ("root", "data")]
    before = [disk.stat().st_mtime_ns for disk in disks]
    done = metal.pytest("--image", str(GOOD), "--platform", "metal", "--suite", "baseline")
    assert done.status != 0, done.out
    assert "it has no cloud-init and no python3, so nothing in it would call home" in done.text
    assert [disk.stat().st_mtime_ns for disk in disks] == before
    assert power(clean_node) == "Off"


def test_no_inventory_is_said_before_anything_boots(work: Workspace) -> None:
    done = work.pytest("--image", str(GOOD), "--platform", "metal", "--suite", "baseline")
    assert done.status == 4
    assert "there is no nodes.yaml" in done.text
