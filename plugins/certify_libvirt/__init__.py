"""Virtual machines by libvirt: the ``vm`` platform and a deploy driver. libvirt is imported when something is used."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from certify.hooks import Finding, hookimpl
from certify.processes import is_installed

# Read once, when libvirt's library is loaded: it would write its errors to our standard error, beside raising them.
os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "4:file:/dev/null")

if TYPE_CHECKING:
    from certify.config import Config
    from certify.deploy.driver import DeployDriver
    from certify.models import Model
    from certify.nodes.platform import Platform, PlatformKind

_NEEDED = ("libvirt", "pycdlib", "oslo_utils", "PIL")


@hookimpl
def certify_platform_kinds() -> Iterable[PlatformKind]:
    from certify_libvirt.settings import VM

    return [VM]


@hookimpl
def certify_fleet_settings() -> Iterable[tuple[str, Model]]:
    from certify_libvirt.settings import VmSettings

    return [("vm", VmSettings(network="user"))]


@hookimpl
def certify_platforms(config: Config) -> Iterable[Platform]:
    if not is_installed(*_NEEDED):
        return []  # `certify doctor` says how
    from certify_libvirt.platform import LibvirtPlatform
    from certify_libvirt.settings import VmSettings

    return [LibvirtPlatform(config.of_platform("vm", VmSettings), config.images)]


@hookimpl
def certify_deploy_drivers() -> Iterable[DeployDriver]:
    if not is_installed(*_NEEDED):
        return []
    from certify_libvirt.deploy import LibvirtDeployDriver

    return [LibvirtDeployDriver()]


@hookimpl
def certify_versions() -> Iterable[tuple[str, str]]:
    from certify_libvirt.doctor import versions

    return versions()


@hookimpl
def certify_doctor(config: Config) -> Iterable[Finding]:
    from certify_libvirt.doctor import examine

    return examine(config)


@hookimpl
def certify_gc(config: Config, is_alive: Callable[[str], bool], dry_run: bool) -> Iterable[str]:
    if not is_installed(*_NEEDED):
        return []
    from certify_libvirt.cleanup import collect

    return collect(config, is_alive, dry_run)
