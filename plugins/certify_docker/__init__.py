"""Containers on a docker engine: the ``docker-daemon:`` transport, the ``container`` platform, a deploy driver.

The docker SDK is imported when something is used, not when certify starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from certify.hooks import Finding, hookimpl

if TYPE_CHECKING:
    from certify.config import Config
    from certify.deploy.driver import DeployDriver
    from certify.images.candidate import Transport
    from certify.models import Model
    from certify.nodes.platform import Platform, PlatformKind


@hookimpl
def certify_transports() -> Iterable[Transport]:
    from certify_docker.transport import DaemonTransport

    return [DaemonTransport()]


@hookimpl
def certify_platform_kinds() -> Iterable[PlatformKind]:
    from certify_docker.settings import CONTAINER

    return [CONTAINER]


@hookimpl
def certify_fleet_settings() -> Iterable[tuple[str, Model]]:
    from certify_docker.settings import ContainerSettings

    return [("platform", ContainerSettings(network="bridge"))]


@hookimpl
def certify_platforms(config: Config) -> Iterable[Platform]:
    from certify_docker.platform import DockerPlatform
    from certify_docker.settings import ContainerSettings

    return [DockerPlatform(config.of_platform("container", ContainerSettings), config.images)]


@hookimpl
def certify_deploy_drivers() -> Iterable[DeployDriver]:
    from certify_docker.deploy import DockerDeployDriver

    return [DockerDeployDriver()]


@hookimpl
def certify_versions() -> Iterable[tuple[str, str]]:
    from certify_docker.doctor import versions

    return versions()


@hookimpl
def certify_doctor(config: Config) -> Iterable[Finding]:
    from certify_docker.doctor import examine

    return examine(config)


@hookimpl
def certify_gc(is_alive: Callable[[str], bool], dry_run: bool) -> Iterable[str]:
    from certify_docker.cleanup import collect

    return collect(is_alive, dry_run)
