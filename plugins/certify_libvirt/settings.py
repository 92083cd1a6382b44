"""What the vm platform can be told: its sections of ``certify.yaml`` and ``fleet.yaml``."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from certify.models import Model, Size
from certify.nodes.platform import PlatformKind, PlatformSettings

_Firmware = Annotated[str, Meta(pattern="^(auto|bios|uefi|uefi-secure)$(?!\\n)")]
_Access = Annotated[str, Meta(pattern="^(credentials|cloud-init|agent|login)$(?!\\n)")]


class Login(Model, frozen=True):
    """An account for the serial console."""

    user: Annotated[str, Meta(description="its name")] = "root"
    password_env: Annotated[str, Meta(description="environment variable that holds its password")] = (
        "CERTIFY_VM_PASSWORD"
    )


class VmSettings(PlatformSettings, frozen=True):
    """How candidates are booted as virtual machines."""

    DECIDING: ClassVar[tuple[str, ...]] = (
        "firmware", "disk", "data_disk", "nics", "network", "kernel", "initrd", "cmdline", "user_data", "access", "login",
        "console_ignore",
    )  # fmt: skip
    FILES: ClassVar[tuple[str, ...]] = ("kernel", "initrd", "user_data")

    driver: Annotated[str, Meta(description="which installed driver boots candidates there")] = "libvirt"
    uri: Annotated[str, Meta(description="libvirt's; embed needs no daemon")] = "embed"
    memory: Annotated[Size, Meta(description="per node")] = "1GiB"
    cpus: Annotated[int, Meta(ge=1, le=64, description="processors per node")] = 2
    firmware: Annotated[
        list[_Firmware],
        Meta(
            min_length=1,
            description="the first boots every node, the vm suite tries the others; auto reads it off the disk",
        ),
    ] = msgspec.field(default_factory=lambda: ["auto"])
    acceleration: Annotated[str, Meta(pattern="^(auto|kvm|tcg)$(?!\\n)", description="auto tries what works")] = "auto"
    disk: Annotated[Size | None, Meta(description="size of the root disk; by default the image's")] = None
    data_disk: Annotated[Size | None, Meta(description="size of a second disk, an empty one")] = None
    nics: Annotated[int, Meta(ge=0, le=8, description="network cards")] = 1
    network: Annotated[str, Meta(pattern="^(internal|user)$(?!\\n)", description="internal has no way out")] = (
        "internal"
    )
    kernel: Annotated[str | None, Meta(description="file that boots images which ship no kernel")] = None
    initrd: Annotated[str | None, Meta(description="file that goes with the kernel")] = None
    cmdline: Annotated[str, Meta(description="of that kernel")] = "root=/dev/vda rw console=tty0 console=ttyS0,115200"
    user_data: Annotated[str | None, Meta(description="file of cloud-init's user-data")] = None
    access: Annotated[list[_Access], Meta(description="the ways into a guest that may be tried")] = msgspec.field(
        default_factory=lambda: ["credentials", "cloud-init", "agent", "login"]
    )
    login: Annotated[Login | None, Meta(description="account for the serial console")] = None
    forks: Annotated[bool, Meta(description="whether nodes are forked from a memory snapshot")] = True
    snapshot_cache: Annotated[Size, Meta(description="how much memory snapshots may take on the disk")] = "8GiB"
    pool: Annotated[str, Meta(description="storage pool of a remote hypervisor")] = "default"
    console_ignore: Annotated[list[str], Meta(description="patterns of console lines that are no failure")] = []


VM = PlatformKind(
    "vm",
    VmSettings(),
    offers=frozenset({"systemd", "network", "reboot", "kernel", "package-manager"}),
    first_for=frozenset({"disk"}),
)
