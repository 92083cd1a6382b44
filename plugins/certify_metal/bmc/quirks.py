"""What BMCs do otherwise than the standard, as data: ``quirks.yaml``, by vendor and model."""

from __future__ import annotations

import re
from importlib import resources
from typing import Any

import msgspec
import yaml


class Quirks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``boot_enabled``: what to write in place of what is asked for; ``insert_fields``: more for InsertMedia; ``if_match``:
    changes need an ``If-Match`` header."""

    boot_enabled: str = ""
    insert_fields: dict[str, Any] = {}
    if_match: bool = False


class _Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    vendor: str
    quirks: Quirks
    why: str
    model: str = ""


def quirks_of(vendor: str, model: str) -> Quirks:
    """Of the first rule whose patterns match both, case-insensitively; none when no rule does."""
    text = (resources.files("certify_metal.bmc") / "quirks.yaml").read_text()
    for rule in msgspec.convert(yaml.safe_load(text), list[_Rule]):
        if re.search(rule.vendor, vendor, re.IGNORECASE) and re.search(rule.model, model, re.IGNORECASE):
            return rule.quirks
    return Quirks()
