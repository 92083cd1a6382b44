"""YAML files that can be read in one way only: nothing is written twice, nothing is endless."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from certify.errors import ConfigError
from certify.files import read_regular

#: Larger files are refused, in bytes.
_MOST = 4 * 1024 * 1024
#: Values in one file, aliases counted each time.
_MOST_NODES = 200_000


def read_yaml(path: Path) -> tuple[yaml.Node, Any]:
    """A file's nodes, for where things stand, and its data, with keys as text. Raises ConfigError with file and line."""
    try:
        text = read_regular(path, _MOST).decode("utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        if tree is None:
            raise ConfigError(
                f"{path}:1: it is empty", "write settings into it, or remove it: `certify init` writes one"
            )
        _require_unambiguous(tree, path)
        return tree, _string_keys(yaml.safe_load(text))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "name the file, or write one with `certify init`") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text", "save it as UTF-8") from None
    except RecursionError:
        raise _endless(path) from None
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(
            f"{path}{line}: not YAML: {getattr(error, 'problem', error)}", "check the indentation"
        ) from None


def _require_unambiguous(tree: yaml.Node, path: Path) -> None:
    """Raise ConfigError for a setting that is written twice, and for values that aliases make endless."""
    waiting, seen = [tree], 0
    while waiting:
        node = waiting.pop()
        seen += 1
        if seen > _MOST_NODES:
            raise _endless(path)
        if isinstance(node, yaml.MappingNode):
            _require_keys(node, path)
            waiting += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _require_keys(node: yaml.MappingNode, path: Path) -> None:
    keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    if len(keys) < len(node.value):
        raise ConfigError(f"{path}:{node.start_mark.line + 1}: a name that is no text", "write it out")
    count = Counter(key.value for key in keys)
    for key in reversed(keys):
        if count[key.value] > 1:
            raise ConfigError(f"{path}:{key.start_mark.line + 1}: {key.value} is written twice", "write it once")


def _endless(path: Path) -> ConfigError:
    return ConfigError(f"{path}:1: it contains itself, or is nested without end", "write it without aliases")


def _string_keys(value: Any) -> Any:
    """YAML keys may be numbers (``8081: 8080``); the models' are strings, as in JSON."""
    if isinstance(value, dict):
        return {str(k): _string_keys(v) for k, v in value.items()}
    return [_string_keys(item) for item in value] if isinstance(value, list) else value
