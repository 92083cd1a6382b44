"""What a lab plugin gives ``certify lab``: virtual metal nodes behind real BMC protocol, for those with no hardware."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from certify.nodes.platform import Progress


@dataclass(frozen=True)
class LabNode:
    """One virtual metal node: where its BMC is and whether it is on."""

    name: str
    uuid: str
    bmc: str
    power: str


class Lab(Protocol):
    """A lab below one directory. Everything it starts is its own, and gone after :meth:`down`."""

    def up(self, nodes: int, inventory: Path, progress: Progress, *, bmc: str) -> list[LabNode]:
        """Start what is missing and write the inventory. Safe to repeat. Raises EngineUnavailable or UsageError.

        ``bmc`` is what the inventory names: ``redfish``, or ``ipmi``, whose nodes have no virtual media.
        """
        ...

    def down(self, progress: Progress) -> bool:
        """Stop and remove everything; False when there was nothing."""
        ...

    def status(self) -> list[LabNode]:
        """The nodes; empty when the lab is down. Raises EngineUnavailable."""
        ...
