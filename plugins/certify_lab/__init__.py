"""A lab of virtual metal nodes: libvirt domains of its own behind sushy-tools' Redfish emulator."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from certify.hooks import hookimpl

if TYPE_CHECKING:
    from certify.nodes.lab import Lab


@hookimpl
def certify_labs(folder: Path | None) -> Iterable[Lab]:
    try:
        from certify_lab.lab import VirtualLab
    except ImportError:  # the extra is not installed
        return []
    return [VirtualLab(folder)]
