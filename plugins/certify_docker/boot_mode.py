"""How an image is started in a container, read off its config (image-spec config.md).

``init``: its init system is process 1. ``service``: its own entrypoint and command, untouched. ``idle``: a tool image
that would end at once; it is kept alive from outside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from certify.images.candidate import Candidate, ImageConfig
from certify.models import size_bytes
from certify_docker.cgroup import Engine, own_group
from certify_docker.settings import ContainerSettings

#: Where the helper volume is mounted when the image needs help: outside every path an image uses.
TOOLS = "/.certify"
#: Programs that are an init system where systems keep theirs; anything else of that name is a service like any other.
_INITS = {"init", "systemd", "openrc-init", "runit-init"}
_INIT_PLACES = {"/sbin", "/usr/sbin", "/bin", "/usr/bin", "/lib/systemd", "/usr/lib/systemd"}
#: What systemd wants mounted when it cannot mount (systemd.io/CONTAINER_INTERFACE). Of two that nest the outer comes first.
_INIT_TMPFS = {"/run": "exec,mode=755", "/run/lock": "", "/tmp": "exec,mode=1777"}
_ROOT = ("", "0", "root", "0:0", "root:root")
_SHELL_PLACES = {"/bin", "/usr/bin", "/usr/local/bin"}
_SHELLS = {"sh", "bash", "ash", "dash", "zsh", "busybox"}


def detect(config: ImageConfig) -> str:
    """``init``, ``service`` or ``idle``."""
    command = config.command
    if not command:
        return "idle"
    program = PurePosixPath(command[0])
    if program.name in _INITS and str(program.parent) in _INIT_PLACES:
        return "init"
    is_shell = program.name in _SHELLS and str(program.parent) in {".", *_SHELL_PLACES}
    return "idle" if is_shell and len(command) == 1 else "service"


def mode_of(candidate: Candidate, settings: ContainerSettings) -> str:
    """The mode the settings ask for, or the detected one."""
    return settings.mode if settings.mode != "auto" else detect(candidate.config)


@dataclass(frozen=True)
class BootPlan:
    """Arguments of the engine's container-create call, split as the SDK wants them; ``container`` is the name."""

    mode: str
    container: str
    create: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Any] = field(default_factory=dict)


def plan(candidate: Candidate, settings: ContainerSettings, *, engine: Engine, container: str) -> BootPlan:
    """The hardened defaults plus exactly what the mode needs. ``container`` is the name it will have."""
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
        group = own_group(engine, container)
        return BootPlan(mode, container, create, {**host, **group, "tmpfs": {**_INIT_TMPFS, **group.get("tmpfs", {})}})
    if candidate.config.user in _ROOT:
        host["security_opt"] = ["no-new-privileges:true"]  # of another user it would take root's capabilities for good
    if mode == "idle":
        return BootPlan(
            mode, container, {"entrypoint": [f"{TOOLS}/busybox", "tail", "-f", "/dev/null"], "command": []}, host
        )
    return BootPlan(mode, container, {}, host)
