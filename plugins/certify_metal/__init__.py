"""Metal test nodes: the ``metal`` platform and its deploy driver, by Redfish or IPMI.

``bmc/`` speaks to machines' BMCs, ``host/`` is what runs on this host, ``node/`` what runs on the nodes. The libraries are
imported when something is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from certify.hooks import Finding, hookimpl
from certify.processes import is_installed

if TYPE_CHECKING:
    from certify.config import Config
    from certify.deploy.driver import DeployDriver
    from certify.models import Model
    from certify.nodes.platform import Platform, PlatformKind

_NEEDED = ("sushy", "cryptography", "pycdlib", "oslo_utils")


@hookimpl
def certify_platform_kinds() -> Iterable[PlatformKind]:
    from certify_metal.settings import METAL

    return [METAL]


@hookimpl
def certify_fleet_settings() -> Iterable[tuple[str, Model]]:
    from certify_metal.settings import MetalSettings

    return [("metal", MetalSettings())]


@hookimpl
def certify_platforms(config: Config) -> Iterable[Platform]:
    if not is_installed(*_NEEDED):
        return []  # `certify doctor` says how
    from certify_metal.platform import MetalPlatform
    from certify_metal.settings import MetalSettings

    return [MetalPlatform(config.of_platform("metal", MetalSettings), config.images)]


@hookimpl
def certify_deploy_drivers() -> Iterable[DeployDriver]:
    if not is_installed(*_NEEDED):
        return []
    from certify_metal.deploy import MetalDeployDriver

    return [MetalDeployDriver()]


@hookimpl
def certify_doctor(config: Config) -> Iterable[Finding]:
    from certify_metal.doctor import examine

    return examine(config)


@hookimpl
def certify_probe_nodes(inventory: Path) -> Iterable[Finding]:
    from certify_metal.doctor import probe

    return probe(inventory)


@hookimpl
def certify_netboot(folder: Path, host: str) -> Iterable[Path]:
    from certify_metal.host.netboot import write_programs

    return write_programs(folder, host)
