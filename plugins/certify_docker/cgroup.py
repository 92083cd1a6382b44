"""A control group of its own for a container whose init system writes one, and nothing of the host's beyond it.

systemd as process 1 needs a writable group (systemd.io/CONTAINER_INTERFACE). Mounting one takes a capability that reaches
the host's devices, and the whole hierarchy writable reaches the host's other containers. So each such container gets a parent
group named for it; that one alone is mounted writable, where systemd looks for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOT = "/sys/fs/cgroup"
_NAME = "certify"


@dataclass(frozen=True)
class Engine:
    """What an engine says of its host's control groups: their version (cgroups(7)), and who makes them there."""

    version: str
    driver: str

    @classmethod
    def of(cls, info: dict[str, Any]) -> Engine:
        """From the engine's ``info`` answer."""
        return cls(str(info.get("CgroupVersion", "1")), str(info.get("CgroupDriver", "cgroupfs")))


def own_group(engine: Engine, container: str) -> dict[str, Any]:
    """The engine's host settings that give ``container`` (its name) a writable group of its own."""
    parent = _parent(engine, container)
    mounted = _ROOT if engine.version == "2" else f"{_ROOT}/systemd"
    path = f"{mounted}/{parent.strip('/')}"
    settings: dict[str, Any] = {"cgroupns": "host", "cgroup_parent": parent, "binds": [f"{path}:{path}:rw"]}
    if engine.version != "2":  # the engine mounts the container's own group there, without a place for this one
        settings["tmpfs"] = {mounted: ""}
    return settings


def _parent(engine: Engine, container: str) -> str:
    key = hashlib.sha256(container.encode()).hexdigest()[:16]
    return f"{_NAME}{key}.slice" if engine.driver == "systemd" else f"/{_NAME}{key}"


def remove_group(parent: str) -> None:
    """Take a container's parent group away where the engine's host is this one; another's, or one in use, stays."""
    name = parent.strip("/")
    if name.startswith(_NAME) and "/" not in name:
        for place in _places(name):
            with contextlib.suppress(OSError):
                place.rmdir()


def left_groups() -> set[str]:
    """Names of the empty groups on this host that containers of ours left; one in use is never empty."""
    found = {place.name for place in Path(_ROOT).glob(f"{_NAME}*") if _is_left(place)}
    return found | {place.name for place in Path(_ROOT).glob(f"*/{_NAME}*") if _is_left(place)}


def _is_left(place: Path) -> bool:
    named = re.fullmatch(rf"{_NAME}[0-9a-f]{{16}}(\.slice)?", place.name)
    return named is not None and place.is_dir() and not any(child.is_dir() for child in place.iterdir())


def _places(name: str) -> Iterator[Path]:
    """Where a group can be: in the one hierarchy, or in each of the old ones."""
    yield Path(_ROOT, name)
    yield from (
        folder / name for folder in Path(_ROOT).glob("*") if (folder / name).is_dir() and not folder.is_symlink()
    )
