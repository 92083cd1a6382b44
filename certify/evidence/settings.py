"""The settings of a platform that decide what is checked, apart from those that only say what its host can spare."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from certify.config import Config

#: By platform. Memory, processors, time-outs and addresses are the host's own matter.
_DECIDING = {
    "container": ("mode", "network"),
    "vm": (
        "firmware",
        "disk",
        "data_disk",
        "nics",
        "network",
        "kernel",
        "initrd",
        "cmdline",
        "user_data",
        "access",
        "login",
        "console_ignore",
    ),
    "metal": ("user_data",),
}
#: Of settings that name a file, its bytes decide, wherever it lies.
_FILES = ("kernel", "initrd", "user_data")


def deciding_settings(config: Config, platform: str) -> dict[str, Any]:
    """Name → value in force, as plain data; of files their digests. Empty for a platform that has none such."""
    model = getattr(config.platforms, platform, None)
    if model is None:
        return {}
    values: dict[str, Any] = msgspec.to_builtins(model)
    wanted = _DECIDING.get(platform, ())
    return {name: _of_file(values[name]) if name in _FILES else values[name] for name in wanted}


def _of_file(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"
