"""Models that are read from YAML files by people: frozen, strict, and the JSON Schema too.

A mistake is reported as ``file:line: what is wrong`` with the nearest right name. Nothing here reads anything but the
file it is given.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import yaml
from msgspec import Meta, Struct

from certify.errors import ConfigError
from certify.yaml_file import read_yaml

_DURATION = r"^[0-9]+(ms|s|m|h|d|w)$(?!\n)"
_SIZE = r"^[0-9]+(KiB|MiB|GiB|B)$(?!\n)"
_NAME = r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$(?!\n)"
Duration = Annotated[str, Meta(pattern=_DURATION, description="a number and ms, s, m, h, d or w", examples=["30d"])]
Size = Annotated[str, Meta(pattern=_SIZE, description="a number and B, KiB, MiB or GiB", examples=["512MiB"])]
Name = Annotated[str, Meta(pattern=_NAME, description="lower case letters, digits, '.', '_', '-'")]
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST = 100 * 366 * 86400
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
T = TypeVar("T")


class Model(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every model: frozen, and a field nobody knows is an error."""


def seconds(duration: str) -> float:
    """``"30s"`` → 30.0. The models have checked the form already."""
    match = re.fullmatch(r"([0-9]+)(\w+)", duration)
    if match is None or match[2] not in _SECONDS:
        raise ConfigError(f"{duration!r} is no duration", "write a number and ms, s, m, h, d or w, e.g. 30s")
    found = int(match[1]) * _SECONDS[match[2]]
    if found > _LONGEST:
        raise ConfigError(f"{duration!r} is more than a hundred years", "write a time that somebody waits for")
    return found


def size_bytes(size: str) -> int:
    """``"1GiB"`` → 1073741824. The models have checked the form already."""
    match = re.fullmatch(r"([0-9]+)(\w+)", size)
    if match is None or match[2] not in _BYTES:
        raise ConfigError(f"{size!r} is no size", "write a number and B, KiB, MiB or GiB, e.g. 512MiB")
    return int(match[1]) * _BYTES[match[2]]


def load(path: Path, model: type[T]) -> T:
    """Read one YAML file into ``model``. Raises ConfigError with file and line."""
    tree, data = read_yaml(path)
    try:
        return msgspec.convert(data, model)
    except msgspec.ValidationError as error:
        raise _explain(error, path, tree, data, model) from None
    except UnicodeEncodeError:
        raise ConfigError(f"{path}: a name or value in it is no text (half of a character)", "write it out") from None


def schema(model: type[Any]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a model."""
    document = msgspec.json.schema(model)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": model.__name__, **document}


def _explain(error: msgspec.ValidationError, path: Path, tree: Any, data: Any, model: type[Any]) -> ConfigError:
    """msgspec's ``what - at `$.a.b[0]` `` → ``file:line: a.b.0: what`` and a hint."""
    text, _, where = str(error).partition(" - at `")
    steps = re.findall(r"\.([^.\[\]`]+)|\[(\d+|\.\.\.)\]", where.rstrip("`"))
    unknown = re.search(r"unknown field `([^`]*)`", text)
    keys = [key or index for key, index in steps] + ([unknown[1]] if unknown else [])
    keys = _name_entries(data, keys, model)
    line = _line(tree, keys)
    dotted = ".".join(keys) or "the file"
    if unknown is None:
        return ConfigError(f"{path}:{line}: {dotted}: {text[0].lower()}{text[1:]}", "see `certify schema`")
    known = sorted(_field_names(model))
    near = get_close_matches(unknown[1], known, 1)
    hint = f"did you mean {near[0]!r}?" if near else "see `certify schema` for what is known there"
    return ConfigError(f"{path}:{line}: {dotted}: no such setting", hint)


def _name_entries(data: Any, keys: list[str], model: type[Any]) -> list[str]:
    """msgspec says ``...`` for "some entry of this mapping": find which, by leaving the others out one at a time."""
    if "..." not in keys or not isinstance(data, dict):
        return keys
    before, after = keys[: keys.index("...")], keys[keys.index("...") + 1 :]
    parent = data
    for key in before:
        if not isinstance(parent, dict):
            return keys
        parent = parent[key]
    for name, value in parent.items():
        narrowed = {name: value}
        for key in reversed(before):
            narrowed = {key: narrowed}
        try:
            msgspec.convert({**data, **narrowed}, model)
        except msgspec.ValidationError:
            return [*before, str(name), *after]
    return keys


def _line(node: Any, keys: list[str]) -> int:
    """Line of the deepest node that ``keys`` lead to."""
    line = node.start_mark.line + 1 if node is not None else 1
    for key in keys:
        if isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
            node = node.value[int(key)]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            found = [(k, v) for k, v in node.value if key == k.value]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
    return int(line)


def _field_names(model: type[Any]) -> set[str]:
    """Every setting's name below ``model``, for near-miss hints."""
    definitions = msgspec.json.schema(model).get("$defs", {})
    return {name for definition in definitions.values() for name in definition.get("properties", {})}
