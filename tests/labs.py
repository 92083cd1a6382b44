"""Labs of a test's or benchmark's own: started once, gone at the end."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certify.nodes.platform import Progress
from certify_lab.lab import VirtualLab


@contextmanager
def running_lab(inventory: Path, *, bmc: str = "redfish", progress: Progress = lambda _: None) -> Iterator[Path]:
    """One node, behind what ``bmc`` says; ``inventory`` is written, and given back."""
    lab = VirtualLab(Path(f"/var/tmp/cl-{secrets.token_hex(3)}"))
    try:
        lab.up(1, inventory, progress, bmc=bmc)
        yield inventory
    finally:
        lab.down(progress)
