"""What ``certify doctor`` says about metal; with ``--metal`` it asks every BMC, and changes nothing."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from certify.config import Config
from certify.errors import CertifyError
from certify.hooks import Finding
from certify_metal.host.inventory import MetalNode, load_inventory
from certify_metal.settings import MetalSettings

_PROGRAMS = {
    "mmdebstrap": "mmdebstrap", "busybox": "busybox-static", "depmod": "kmod", "zstd": "zstd",
    "grub-mkrescue": "grub-common grub-pc-bin grub-efi-amd64-bin", "xorriso": "xorriso", "mformat": "mtools",
}  # fmt: skip
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_AT_ONCE = 16


def examine(config: Config) -> Iterator[Finding]:
    """Programs for the installer, and the inventory. Problems are problems only where metal is asked for in certify.yaml."""
    asked = any("metal" in channel.requires.platforms for channel in config.channels.values())
    severity = "problem" if asked else "warning"
    if importlib.util.find_spec("sushy") is None:
        yield Finding("metal", severity, "sushy is not installed", "pip install 'pytest-certify[metal]'")
        return
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program, path=_SYSTEM_PATH) is None]
    if missing:
        yield Finding(
            "metal",
            severity,
            "the installer cannot be built: programs are missing",
            f"apt-get install {' '.join(missing)}",
        )
        return
    path = Path(config.of_platform("metal", MetalSettings).nodes)
    if not path.exists():
        yield Finding("metal", severity, f"there is no {path}", "write one, or try `certify lab up`")
        return
    try:
        names = ", ".join(load_inventory(path).nodes)
    except CertifyError as error:
        yield Finding("metal", "problem", error.message, error.hint)
        return
    yield Finding("metal", "ok", f"{path}: {names}; `certify doctor --metal {path}` asks their BMCs")


def probe(path: Path) -> list[Finding]:
    """Ask the BMC of every node: reachable, credentials, identity, media, boot targets. Raises ConfigError for the file."""
    nodes = load_inventory(path).nodes
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda item: _probe(*item), nodes.items()))


def _probe(name: str, node: MetalNode) -> Finding:
    from certify_metal.bmc.drivers import bmc_of
    from certify_metal.host.netboot import PORT

    bmc = bmc_of(name, node)
    try:
        bmc.connect()
        slots, facts, targets = bmc.slots(), bmc.facts(), bmc.boot_targets()
    except CertifyError as error:
        return Finding(name, "problem", error.message.removeprefix(f"{name}: "), error.hint)
    told = (
        f"{facts['manufacturer'] or 'unknown'} {facts['model'] or ''} {bmc.uuid}, power {facts['power']}, "
        f"{len(slots)} slots for CD images, boots from {', '.join(sorted(targets)) or 'unknown'}"
    )
    needed = {"Cd" if slots else "Pxe", "Hdd"}
    if targets and not needed <= targets:
        wanted = " and ".join(sorted(needed))
        return Finding(name, "problem", f"{told}; it must be able to boot from {wanted}", "see its BIOS settings")
    if not slots:
        told += f"; its installer comes from the network: `certify netboot` writes what DHCP must name, port {PORT}"
    return Finding(name, "ok", told)
