"""Machines and images that metal people know: none of them is believed, none is left in a state that the next run cannot use."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest

from certify_metal.host.inventory import MetalNode
from tests.images.builder import load
from tests.images.disk import build_disk
from tests.integration.conftest import Workspace
from tests.integration.metal.test_metal import LONG, disks_of, lab_folder, power
from tests.integration.vm.test_machines import suite

pytestmark = pytest.mark.slow
NOTHING = "def test_it(node):\n    pass\n"


def configured(work: Workspace, lab_nodes: Path, **more: str) -> None:
    settings = "".join(f", {name}: {value}" for name, value in more.items())
    work.write("certify.yaml", f"platforms: {{metal: {{nodes: {lab_nodes}, clean: none{settings}}}}}\n")


@pytest.fixture
def rebuilt(clean_node: MetalNode) -> Iterator[Callable[[Callable[[str], str]], None]]:
    """Changes the virtual machine below a node, as libvirt's XML, until the test is over."""
    socket = lab_folder(clean_node).parents[1] / "run/libvirt/libvirt-sock"
    connection = libvirt.open(f"qemu+unix:///session?socket={socket}")
    before = connection.lookupByName("metal-1").XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    yield lambda edit: connection.defineXML(edit(before)) and None
    connection.defineXML(before)
    connection.close()


def test_an_old_server(
    work: Workspace, lab_nodes: Path, clean_node: MetalNode, rebuilt: Callable[[Callable[[str], str]], None]
) -> None:
    """Firmware without UEFI, and a clock that is years behind: certificates, plans and tokens do not depend on it."""

    def older(xml: str) -> str:
        xml = re.sub(r"<loader.*?</loader>\s*<nvram.*?</nvram>", "", xml, flags=re.DOTALL)
        return re.sub(r"<clock .*?(/>|</clock>)", "<clock offset='absolute' start='1199145600'/>", xml, flags=re.DOTALL)

    rebuilt(older)
    configured(work, lab_nodes)
    text = """
def test_it(node):
    told = node.how.details["installer"]["installer"]
    assert told["firmware"] == "bios"
    assert told["clock"] < 1262304000
    assert node.run("test -d /sys/firmware/efi").status == 1
"""
    done = work.pytest(
        "--image", str(build_disk(load("disk-base"))), "--platform", "metal", "--suite", suite(work, text), timeout=LONG
    )
    assert done.status == 0, done.out


def bootless(work: Workspace) -> str:
    """An image with a partition table and nothing that a firmware could start."""
    with (work.path / "empty.img").open("wb") as file:
        file.truncate(64 * 1024**2)
    command = ["/usr/sbin/sfdisk", "-q", str(work.path / "empty.img")]
    subprocess.run(command, input=b"label: gpt\nstart=2048, type=linux\n", check=True)
    return "empty.img"


def test_an_old_system_that_boots_instead_is_not_believed(
    work: Workspace, lab_nodes: Path, clean_node: MetalNode
) -> None:
    """The firmware boots another disk than the one that was written. Its cloud-init may even find the new seed and tell the
    token: where its root is gives it away."""
    configured(work, lab_nodes)
    name = suite(work, NOTHING)
    done = work.pytest(
        "--image", str(build_disk(load("disk-base"))), "--platform", "metal", "--suite", name, timeout=LONG
    )
    assert done.status == 0, done.out
    inventory = lab_nodes.read_text().replace("root_disk:\n      serial: root", "root_disk:\n      serial: data")
    configured(
        work, work.write("other.yaml", inventory.replace("- serial: data", "- serial: root")), boot_timeout="120s"
    )
    before = disks_of(clean_node)
    said = (lab_folder(clean_node) / "console.log").stat().st_size
    done = work.pytest("--image", bootless(work), "--platform", "metal", "--suite", name, timeout=LONG)
    assert done.status == 6, done.out
    assert "it booted with serial 'root', and 'data' was written" in done.out
    assert disks_of(clean_node)["data"] != before["data"]
    with (lab_folder(clean_node) / "console.log").open("rb") as console:
        console.seek(said)
        assert b"Linux version" in console.read()


def test_an_image_that_never_boots(work: Workspace, lab_nodes: Path, clean_node: MetalNode) -> None:
    """Written and proven on the disk, and nothing in it that a firmware could start."""
    configured(work, lab_nodes, boot_timeout="60s")
    image = bootless(work)
    done = work.pytest("--image", image, "--platform", "metal", "--suite", suite(work, NOTHING), timeout=LONG)
    assert done.status == 6, done.out
    assert "nothing that was written here has proven itself within 60s" in done.out
    assert power(clean_node) == "Off"


def test_an_image_that_boots_without_network(work: Workspace, lab_nodes: Path, clean_node: MetalNode) -> None:
    """It runs and nobody hears of it; its last words on the serial line are told."""
    configured(work, lab_nodes, boot_timeout="90s")
    image = build_disk(load("disk-offline"))
    done = work.pytest("--image", str(image), "--platform", "metal", "--suite", suite(work, NOTHING), timeout=LONG)
    assert done.status == 6, done.out
    assert "nothing that was written here has proven itself within 90s; last words: " in done.out
    assert power(clean_node) == "Off"
