"""Boots the installer from the network, where a BMC has no virtual media: PXE (UEFI and BIOS) loads a small GRUB, and GRUB
asks the run that is at work what this machine, by its UUID, is to boot.

The programs are made once and put where the site's DHCP server points; they hold nothing but this host's address. While no
run offers anything to a machine, its GRUB gives way to the next boot device.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from certify.errors import UsageError
from certify_metal.host.image import ARGUMENTS, CONFIG, INITRD, KERNEL, run_tool

#: Where netboot programs ask, unlike a run's other servers, whose addresses are told.
PORT = 8067
#: Programs by name: the platform that GRUB is made for, and the modules that only it has.
PROGRAMS = {"certify.efi": ("x86_64-efi", "efinet"), "certify.0": ("i386-pc-pxe", "pxe biosdisk")}
_MODULES = "net http normal configfile linux smbios minicmd test boot"
_ASK = """smbios --type 1 --get-uuid 8 --set uuid
configfile (http,{host}:{port})/boot/$uuid
exit
"""


def script(server: str, token: str) -> str:
    """What GRUB does with a node that boots the installer; ``server`` is ``host:port``."""
    base = f"(http,{server})/{token}"
    return f"linux {base}/{KERNEL} {ARGUMENTS}\ninitrd {base}/{INITRD} {base}/{CONFIG}\nboot\n"


def write_programs(folder: Path, host: str) -> list[Path]:
    """Write the boot programs that ask ``host``. Raises UsageError for no address, EngineUnavailable with what is missing."""
    if not re.fullmatch(r"[0-9A-Za-z.:-]{1,253}", host):
        raise UsageError(f"--host {host[:80]!r} is no address", "give this host's address, as the nodes reach it")
    written = []
    with tempfile.TemporaryDirectory(prefix="certify-netboot-") as name:
        early = Path(name) / "early.cfg"
        early.write_text(_ASK.format(host=host, port=PORT))
        for program, (platform, modules) in PROGRAMS.items():
            made = Path(name) / program
            run_tool(
                [
                    "grub-mkimage",
                    "-O",
                    platform,
                    "-o",
                    str(made),
                    "-c",
                    str(early),
                    "-p",
                    "/",
                    *_MODULES.split(),
                    *modules.split(),
                ]
            )
            folder.mkdir(parents=True, exist_ok=True)
            (folder / program).write_bytes(made.read_bytes())
            written.append(folder / program)
    return written
