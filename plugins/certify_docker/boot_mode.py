"""How an image is started in a container, read off its config (image-spec config.md).

``init``: its init system is process 1. ``service``: its own entrypoint and command, untouched. ``idle``: a tool image
that would end at once; it is kept alive from outside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from certify.config import ContainerPlatform, size_bytes
from certify.images.candidate import Candidate, ImageConfig

#: Where the helper volume is mounted when the image needs help: outside every path an image uses.
TOOLS = "/.certify"
_INITS = {"init", "systemd", "openrc-init", "runit-init", "s6-svscan", "linuxrc"}
_SHELLS = {"sh", "bash", "ash", "dash", "zsh", "busybox"}


def detect(config: ImageConfig) -> str:
    """``init``, ``service`` or ``idle``."""
    command = config.command
    if not command:
        return "idle"
    program = PurePosixPath(command[0]).name
    if program in _INITS:
        return "init"
    return "idle" if program in _SHELLS and len(command) == 1 else "service"


def mode_of(candidate: Candidate, settings: ContainerPlatform) -> str:
    """The mode the settings ask for, or the detected one."""
    return settings.mode if settings.mode != "auto" else detect(candidate.config)


@dataclass(frozen=True)
class BootPlan:
    """Arguments of the engine's container-create call, split as the SDK wants them."""

    mode: str
    create: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)


def plan(candidate: Candidate, settings: ContainerPlatform, *, cgroup_version: str) -> BootPlan:
    """The hardened defaults plus exactly what the mode needs."""
    mode = mode_of(candidate, settings)
    host: dict[str, Any] = {
        "mem_limit": size_bytes(settings.memory),
        "pids_limit": settings.pids,
        "cap_drop": ["MKNOD", "NET_RAW"],
        "log_config": {"Type": "json-file", "Config": {"max-size": "8m", "max-file": "2"}},
    }
    if mode == "init":
        create: dict[str, Any] = {"environment": ["container=docker"], "tty": True}
        if candidate.config.stop_signal:
            create["stop_signal"] = candidate.config.stop_signal
        return BootPlan(mode, create, {**host, **_init_host(cgroup_version)})
    host["security_opt"] = ["no-new-privileges:true"]
    if mode == "idle":
        return BootPlan(mode, {"entrypoint": [f"{TOOLS}/busybox", "tail", "-f", "/dev/null"], "command": []}, host)
    return BootPlan(mode, {}, host)


def _init_host(cgroup_version: str) -> dict[str, Any]:
    """What systemd needs as process 1 (systemd.io/CONTAINER_INTERFACE): tmpfs, its cgroup, and SYS_ADMIN to mount."""
    needs: dict[str, Any] = {
        "cap_add": ["SYS_ADMIN"],
        "tmpfs": {"/run": "exec,mode=755", "/run/lock": "", "/tmp": "exec,mode=1777"},
        "cgroupns": "private",
    }
    if cgroup_version == "2":  # the engine mounts a private cgroup2 read-only, and systemd must write its own
        needs |= {"cgroupns": "host", "binds": ["/sys/fs/cgroup:/sys/fs/cgroup:rw"]}
    return needs
