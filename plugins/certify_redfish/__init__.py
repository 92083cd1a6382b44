"""Metal test nodes: the ``metal`` platform, by Redfish or (:mod:`certify_ipmi`) IPMI. sushy is imported when it is used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from certify.hooks import Finding, hookimpl

if TYPE_CHECKING:
    from certify.config import Config
    from certify.deploy.driver import DeployDriver
    from certify.nodes.platform import Platform


@hookimpl
def certify_platforms(config: Config) -> Iterable[Platform]:
    try:
        from certify_redfish.platform import RedfishPlatform
    except ImportError:  # the extra is not installed; `certify doctor` says how
        return []
    return [RedfishPlatform(config.platforms.metal, config.images)]


@hookimpl
def certify_deploy_drivers() -> Iterable[DeployDriver]:
    try:
        from certify_redfish.deploy import RedfishDeployDriver
    except ImportError:
        return []
    return [RedfishDeployDriver()]


@hookimpl
def certify_doctor(config: Config) -> Iterable[Finding]:
    from certify_redfish.doctor import examine

    return examine(config)


@hookimpl
def certify_probe_nodes(inventory: Path) -> Iterable[Finding]:
    from certify_redfish.doctor import probe

    return probe(inventory)


@hookimpl
def certify_netboot(folder: Path, host: str) -> Iterable[Path]:
    from certify_redfish.netboot import write_programs

    return write_programs(folder, host)
