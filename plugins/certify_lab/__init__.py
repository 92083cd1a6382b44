"""A lab of virtual metal nodes: libvirt domains of its own behind sushy-tools' Redfish emulator."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from certify.hooks import hookimpl
from certify.processes import is_installed

if TYPE_CHECKING:
    from certify.nodes.lab import Lab


@hookimpl
def certify_labs(folder: Path | None) -> Iterable[Lab]:
    if not is_installed("libvirt", "sushy_tools", "virtualbmc", "bcrypt"):
        return []
    from certify_lab.lab import VirtualLab

    return [VirtualLab(folder)]
