"""The IPMI driver against virtualbmc, and a node that boots its installer from the network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from certify.errors import EngineUnavailable, UsageError
from certify_metal.bmc.ipmi import IpmiBmc
from certify_metal.host.inventory import MetalNode, Secret, load_inventory
from tests.images.builder import load
from tests.images.disk import build_disk
from tests.integration.conftest import Workspace, wait_for
from tests.integration.vm.test_machines import suite
from tests.labs import running_lab


@pytest.fixture(scope="module")
def ipmi_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The inventory of a lab whose BMCs speak IPMI."""
    with running_lab(tmp_path_factory.mktemp("ipmi") / "nodes.yaml", bmc="ipmi") as inventory:
        yield inventory


@pytest.fixture
def node(ipmi_nodes: Path) -> MetalNode:
    return load_inventory(ipmi_nodes).nodes["metal-1"]


@pytest.fixture
def bmc(node: MetalNode) -> Iterator[IpmiBmc]:
    made = IpmiBmc("metal-1", node)
    made.connect()
    made.ensure_off(30)
    yield made
    made.ensure_off(30)


def test_power_boot_device_and_serial_line(bmc: IpmiBmc) -> None:
    """Switched on once, seen on, heard over LAN, and off again; nothing secret is kept of it."""
    said = bytearray()
    with bmc.console_to(said.extend):
        bmc.ensure_boot("Pxe", "Once", 10)
        bmc.ensure_on(10)
        bmc.ensure_on(10)
        wait_for(lambda: b"certify.efi" in said, "the network boot on the serial line", 60)
        assert bmc.power() == "On"
    assert bmc.exchanges.count("On: ok") == 1
    bmc.ensure_off(30)
    assert bmc.power() == "Off"
    assert bmc.facts()["uuid"] == bmc.node.uuid
    assert bmc.critical_events() is None
    assert bmc.node.bmc.password.read() not in str(bmc.exchanges)


def test_a_wrong_password_is_tried_once(node: MetalNode, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong")
    given = msgspec.structs.replace(node.bmc, password=Secret(file=str(tmp_path / "password")))
    with pytest.raises(UsageError, match="refuses the user 'admin'"):
        IpmiBmc("metal-1", msgspec.structs.replace(node, bmc=given)).connect()


def test_a_node_of_another_identity_is_left_alone(node: MetalNode, bmc: IpmiBmc) -> None:
    other = msgspec.structs.replace(node, uuid="00000000-0000-0000-0000-000000000000")
    with pytest.raises(UsageError, match="has uuid"):
        IpmiBmc("metal-1", other).connect()
    assert bmc.power() == "Off"


def test_a_bmc_that_says_nothing_is_unknown(node: MetalNode) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        given = msgspec.structs.replace(node.bmc, address=f"ipmi://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(EngineUnavailable, match="no answer"):
            IpmiBmc("metal-1", msgspec.structs.replace(node, bmc=given)).connect()


def test_doctor_says_how_it_boots(work: Workspace, ipmi_nodes: Path) -> None:
    done = work.certify("doctor", "--metal", str(ipmi_nodes))
    assert done.status == 0, done.text
    assert "its installer comes from the network" in done.text


def test_programs_for_the_network(work: Workspace) -> None:
    done = work.certify("netboot", "tftp", "--host", "10.0.7.1")
    assert done.status == 0, done.text
    for name in ("certify.efi", "certify.0"):
        assert (work.path / "tftp" / name).stat().st_size > 50_000
    done = work.certify("netboot", "other", "--host", "10.0.7.1)/x\nhalt")
    assert done.status == 2
    assert "is no address" in done.text
    assert not (work.path / "other").exists()


@pytest.mark.slow
def test_a_node_without_virtual_media_boots_from_the_network(work: Workspace, ipmi_nodes: Path) -> None:
    """Off to checked by IPMI, PXE and serial-over-LAN alone."""
    work.write("certify.yaml", f"platforms: {{metal: {{nodes: {ipmi_nodes}}}}}\n")
    text = """
def test_it(node):
    assert "Linux version" in node.console().decode("utf-8", "replace")
    assert node.how.details["installer"]["verified"] == node.how.details["installer"]["total"]
"""
    base = build_disk(load("disk-base"))
    done = work.pytest("--image", str(base), "--platform", "metal", "--suite", suite(work, text), timeout=900)
    assert done.status == 0, done.out
