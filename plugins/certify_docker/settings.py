"""What the container platform can be told: its sections of ``certify.yaml`` and ``fleet.yaml``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from certify.models import Duration, Size
from certify.nodes.platform import PlatformKind, PlatformSettings


class ContainerSettings(PlatformSettings, frozen=True):
    """How candidates are booted in containers."""

    DECIDING: ClassVar[tuple[str, ...]] = ("mode", "network")

    driver: Annotated[str, Meta(description="which installed driver boots candidates there")] = "docker"
    mode: Annotated[
        str,
        Meta(pattern="^(auto|init|service|idle)$(?!\\n)", description="how it is started; auto reads it off the image"),
    ] = "auto"
    memory: Annotated[Size, Meta(description="per node")] = "1GiB"
    pids: Annotated[int, Meta(ge=16, description="processes and threads per node")] = 2048
    network: Annotated[
        str,
        Meta(pattern="^(none|internal|bridge)$(?!\\n)", description="none, internal (no way out) or bridge"),
    ] = "internal"
    boot_timeout: Annotated[Duration, Meta(description="how long a node may take until it can be checked")] = "90s"
    stop_timeout: Annotated[Duration, Meta(description="how long a node may take to stop before it is killed")] = "10s"


CONTAINER = PlatformKind(
    "container",
    ContainerSettings(),
    offers=frozenset({"systemd", "service", "network", "reboot", "package-manager"}),
    first_for=frozenset({"oci"}),
)
