"""The settings of a platform that decide what is checked, as evidence and ``certify.lock`` carry them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from certify.nodes.platform import PlatformSettings


def deciding_settings(settings: PlatformSettings) -> dict[str, Any]:
    """Name → value in force, as plain data; of settings that name a file the digest of its bytes, wherever it lies.

    The driver is always one: where candidates are booted by another, other things are seen.
    """
    values: dict[str, Any] = msgspec.to_builtins(settings)
    names = ("driver", *settings.DECIDING)
    return {name: _of_file(values[name]) if name in settings.FILES else values[name] for name in names}


def _of_file(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"
