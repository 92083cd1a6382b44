"""The files that are a suite, and the one digest over them.

Measured by whoever rests on it: when the suite is planned, when a run begins and when it ends.
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from certify.evidence.bundle import directory_digest, left_out
from certify.images.candidate import digest_of


class SuiteFiles(Struct, frozen=True):
    """Absolute paths: all of ``folder`` (empty: no folder) and single ``files`` beside it."""

    folder: str = ""
    files: tuple[str, ...] = ()

    def digest(self) -> str:
        """Over names and contents. Raises UsageError for what is no plain file, OSError for what is gone."""
        whole = [directory_digest(Path(self.folder))] if self.folder else []
        return digest_of("\0".join([*whole, *map(_file_digest, self.files)]).encode())

    def holds(self, path: Path) -> bool:
        """Whether a file's bytes are in the digest."""
        if str(path) in self.files:
            return True
        return bool(self.folder and path.is_relative_to(self.folder)) and not left_out(path.relative_to(self.folder))


def _file_digest(name: str) -> str:
    path = Path(name)
    return f"{path.name} {digest_of(path.read_bytes())}"
