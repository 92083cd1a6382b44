"""Hardware: the image has a driver and firmware for all of it, and it reports no fault."""

from __future__ import annotations

import re
from typing import Any

import pytest

from certify.nodes.node import Node

_LOG = "dmesg 2>/dev/null || journalctl -k -b --no-pager -o cat"
_MISSING = re.compile(
    r"firmware: failed to load|Direct firmware load .* failed|failed to load firmware|Possible missing firmware"
)


def test_firmware_mode_is_the_nodes(node: Node, inventory: dict[str, Any]) -> None:
    """A system that fell back to the other mode boots today and not after the next firmware update."""
    mode = node.run("if [ -d /sys/firmware/efi ]; then echo uefi; else echo bios; fi").text
    assert mode == inventory["firmware"]


def test_every_network_card_is_seen(node: Node, inventory: dict[str, Any]) -> None:
    """By hardware address: names change between kernels."""
    there = node.run("cat /sys/class/net/*/address").lines
    assert [address for address in inventory["nics"].values() if address not in there] == []


def test_memory_is_all_there(node: Node, inventory: dict[str, Any], settings: dict[str, Any]) -> None:
    """A failed module is switched off by the firmware, and nobody is told."""
    line = node.run("grep MemTotal /proc/meminfo").text
    assert int(line.split()[1]) * 1024 >= inventory["memory"] * settings["memory_part"]


def test_no_firmware_is_missing(node: Node, settings: dict[str, Any]) -> None:
    """Cards without their firmware are slow, or deaf, or gone after the next reset."""
    allowed = [re.compile(pattern) for pattern in settings["dmesg_allowed"]]
    lines = [line for line in node.run(_LOG).lines if _MISSING.search(line)]
    assert [line for line in lines if not any(pattern.search(line) for pattern in allowed)] == []


def test_no_driver_is_missing(node: Node, inventory: dict[str, Any], settings: dict[str, Any]) -> None:
    """Every device that stores or carries data has a driver bound (PCI classes 01 and 02).

    Not those that the installer had a driver for, and found no disk and no card on.
    """
    allowed = [re.compile(pattern) for pattern in settings["drivers_missing_allowed"]]
    ask = 'for d in /sys/bus/pci/devices/*; do [ -e $d/driver ] || echo "$(cat $d/class) ${d##*/}"; done'
    bare = [line for line in node.run(ask).lines if line.startswith(("0x01", "0x02"))]
    needed = [line for line in bare if line.split()[1] not in inventory["idle"]]
    assert [line for line in needed if not any(pattern.search(line) for pattern in allowed)] == []


def test_iommu_is_on_where_there_is_one(node: Node) -> None:
    """Without it a device writes wherever it likes."""
    tables, groups = node.run_many(["ls /sys/firmware/acpi/tables", "ls /sys/kernel/iommu_groups"])
    if not {"DMAR", "IVRS"} & set(tables.text.split()):
        pytest.skip("the firmware reports no IOMMU")
    assert groups.text.split() != []


def test_microcode_is_reported(node: Node) -> None:
    """A processor that runs without a microcode revision has none of its fixes."""
    info = node.run("cat /proc/cpuinfo").text
    if "hypervisor" in info:
        pytest.skip("an emulated processor has no microcode")
    revisions = set(re.findall(r"^microcode\s*:\s*(0x[0-9a-f]+)", info, re.MULTILINE))
    assert len(revisions) == 1
    assert revisions != {"0x0"}


def test_no_memory_errors(node: Node) -> None:
    """Corrected errors today are uncorrected ones next month."""
    counts = node.run("cat /sys/devices/system/edac/mc/mc*/[cu]e_count 2>/dev/null").lines
    if not counts:
        pytest.skip("the machine reports no ECC counters")
    assert sum(int(count) for count in counts) == 0
