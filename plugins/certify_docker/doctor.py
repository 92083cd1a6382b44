"""What ``certify doctor`` says about containers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from certify.config import Config
from certify.errors import EngineUnavailable
from certify.hooks import Finding
from certify.images.candidate import go_architecture
from certify.models import size_bytes
from certify_docker import inotify
from certify_docker.busybox import is_static_for
from certify_docker.cgroup import Engine
from certify_docker.engine import connected, translated
from certify_docker.settings import ContainerSettings

_OLDEST = (20, 10)


def examine(config: Config) -> Iterator[Finding]:
    """The engine, its version and memory, and the helper for images without a shell."""
    try:
        with connected() as client, translated():
            info = client.info()
    except EngineUnavailable as error:
        yield Finding("docker engine", "problem", error.message, "systemctl start docker, or as root: dockerd &")
        return
    version = info["ServerVersion"]
    where = os.environ.get("DOCKER_HOST", "local")
    numbers = tuple(int(part) for part in version.split("+")[0].split("-")[0].split(".")[:2] if part.isdigit())
    status = "ok" if numbers >= _OLDEST else "problem"
    yield Finding(
        "docker engine",
        status,
        f"{version} ({where}), cgroup v{info.get('CgroupVersion', '1')}, {info['Driver']}",
        "" if status == "ok" else "certify needs 20.10 or later: apt-get install docker.io",
    )
    memory = config.of_platform("container", ContainerSettings).memory
    fits = int(info["MemTotal"]) // size_bytes(memory)
    yield Finding(
        "memory",
        "ok" if fits else "problem",
        f"{fits} containers of {memory} fit",
        "" if fits else "lower platforms.container.memory in certify.yaml",
    )
    yield _init(info)
    yield from _inotify()
    yield _busybox(go_architecture(info["Architecture"]))


def versions() -> Iterator[tuple[str, str]]:
    """The engine's, if one answers."""
    try:
        with connected() as client, translated():
            found = client.version()
        yield "docker engine", f"{found['Version']}, API {found['ApiVersion']}, kernel {found['KernelVersion']}"
    except EngineUnavailable as error:
        yield "docker engine", f"unknown: {error.message}"


def _init(info: dict[str, Any]) -> Finding:
    """Whether an init system can have a control group of its own: without one its images boot as machines only."""
    local = not os.environ.get("DOCKER_HOST", "").startswith(("tcp://", "ssh://"))
    group = Engine.of(info)
    there = group.version == "2" or Path("/sys/fs/cgroup/systemd").is_dir() or not local
    detail = f"cgroup v{group.version} by {group.driver}: images with an init system boot without privileges"
    if any("rootless" in option for option in info.get("SecurityOptions") or ()):
        there, detail = (
            False,
            "a rootless engine: its host's control groups cannot be given to images with an init system",
        )
    elif not there:
        detail = "no systemd control group on this host: images with an init system do not boot in containers"
    return Finding(
        "init systems", "ok" if there else "warning", detail, "" if there else "boot them with --platform vm"
    )


def _inotify() -> Iterator[Finding]:
    found = inotify.most()
    if found is not None:
        enough = found >= inotify.ENOUGH
        detail = f"{found} instances per user" + ("" if enough else ": systemd fails in the containers that come last")
        yield Finding("inotify", "ok" if enough else "warning", detail, "" if enough else inotify.REMEDY)


def _busybox(architecture: str) -> Finding:
    path = os.environ.get("CERTIFY_BUSYBOX") or shutil.which("busybox")
    remedy = "apt-get install busybox-static"
    if path is None:
        return Finding("busybox", "warning", "none here: images without a shell cannot be checked", remedy)
    if not is_static_for(Path(path).read_bytes(), architecture):
        return Finding("busybox", "warning", f"{path} is no static {architecture} program", remedy)
    return Finding("busybox", "ok", f"{path} is lent to images without a shell")
