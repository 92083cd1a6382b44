"""What turns a candidate into another format of the same content. Plugins give theirs through ``certify_converters``."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from certify.images.candidate import ImageSource


class Converter(Protocol):
    """Writes formats, each proven to hold what its origin does."""

    formats: tuple[str, ...]

    def convert(self, source: ImageSource, form: str, target: Path) -> str:
        """Write ``target`` in the format ``form`` and return its digest. Raises UsageError and ImageError."""
        ...
