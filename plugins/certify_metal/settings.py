"""What the metal platform can be told: its sections of ``certify.yaml`` and ``fleet.yaml``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from certify.models import Duration
from certify.nodes.platform import PlatformKind, PlatformSettings


class MetalSettings(PlatformSettings, frozen=True):
    """How candidates are booted on metal."""

    DECIDING: ClassVar[tuple[str, ...]] = ("user_data",)
    FILES: ClassVar[tuple[str, ...]] = ("user_data",)

    driver: Annotated[str, Meta(description="which installed driver boots candidates there")] = "metal"
    nodes: Annotated[str, Meta(description="the inventory of nodes")] = "nodes.yaml"
    listen: Annotated[
        str | None,
        Meta(description="address of this host that nodes and BMCs reach; by default that of the route to the BMC"),
    ] = None
    clean: Annotated[
        str, Meta(pattern="^(none|metadata|full)$(?!\\n)", description="what is wiped of the root disk afterwards")
    ] = "metadata"
    user_data: Annotated[str | None, Meta(description="file of cloud-init's user-data")] = None
    lease_timeout: Annotated[Duration, Meta(description="how long to wait for a free node")] = "1h"
    bmc_timeout: Annotated[Duration, Meta(description="how long a BMC may take for one step")] = "2m"
    boot_timeout: Annotated[Duration, Meta(description="how long a node may take until it can be checked")] = "10m"
    write_timeout: Annotated[Duration, Meta(description="how long its disk may take to be written")] = "30m"
    stop_timeout: Annotated[Duration, Meta(description="how long a node may take to stop before it is killed")] = "60s"


METAL = PlatformKind(
    "metal", MetalSettings(), offers=frozenset({"systemd", "network", "reboot", "kernel", "package-manager"})
)
