"""The node's disks as sysfs shows them, what carries none, and choosing exactly one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

_NOT_DISKS = ("loop", "ram", "sr", "fd", "dm-", "md", "zram", "nbd")
_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


class NoSuchDisk(Exception):
    """A selector that does not match exactly one disk; the message says what there is."""


def list_disks(sys: Path = Path("/sys")) -> list[dict[str, Any]]:
    """Name, size in bytes, serial, WWN, model and whether it rotates, of every whole disk."""
    return [_disk(path) for path in _whole_disks(sys)]


def _whole_disks(sys: Path) -> list[Path]:
    return [path for path in sorted((sys / "block").iterdir()) if not path.name.startswith(_NOT_DISKS)]


def _disk(path: Path) -> dict[str, Any]:
    return {
        "name": path.name,
        "size": int(_text(path / "size") or 0) * 512,
        "serial": _text(path / "serial") or _text(path / "device/serial") or _page_80(path / "device/vpd_pg80"),
        "wwn": _text(path / "wwid") or _text(path / "device/wwid"),
        "model": _text(path / "device/model"),
        "rotational": _text(path / "queue/rotational") == "1",
        "read_only": _text(path / "ro") == "1",
    }


def idle_controllers(sys: Path = Path("/sys")) -> list[str]:
    """PCI addresses of storage and network controllers (classes 01 and 02) with a driver, and no disk or card below them."""
    used = {part for path in [*_whole_disks(sys), *sys.glob("class/net/*")] for part in path.resolve().parts}
    return [
        device.name
        for device in sorted(sys.glob("bus/pci/devices/*"))
        if _text(device / "class").startswith(("0x01", "0x02"))
        and (device / "driver").exists()
        and device.name not in used
    ]


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8", "replace").strip("\0 \n")
    except OSError:
        return ""


def _page_80(path: Path) -> str:
    """Unit serial number (SPC-4, 7.8.15): four bytes of header, then text."""
    try:
        return path.read_bytes()[4:].decode("ascii", "replace").strip("\0 \n")
    except OSError:
        return ""


def select(disks: list[dict[str, Any]], asked: dict[str, Any]) -> dict[str, Any]:
    """The one disk for which every asked field holds. Raises NoSuchDisk."""
    found = [disk for disk in disks if asked and all(_holds(disk, field, value) for field, value in asked.items())]
    if len(found) != 1:
        there = "; ".join(f"{d['name']}: serial {d['serial'] or '-'}, {d['size']} bytes" for d in disks) or "none"
        raise NoSuchDisk(f"{len(found)} disks match {asked}, and it must be exactly one. Disks: {there}")
    return found[0]


def _holds(disk: dict[str, Any], field: str, value: Any) -> bool:
    if field == "size":
        match = re.fullmatch(r"(>=|<=)?([0-9]+)(KiB|MiB|GiB|B)", str(value))
        if match is None:
            return False
        wanted = int(match[2]) * _UNITS[match[3]]
        size = int(disk["size"])
        return {">=": size >= wanted, "<=": size <= wanted}.get(match[1] or "", size == wanted)
    return bool(disk.get(field) == value)
