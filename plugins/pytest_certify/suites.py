"""Which suites a run uses, where they are, and their settings from ``certify.yaml``.

Installed suites are packages named by entry points of the group ``certify.suites``; a path names a folder of checks.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from certify.errors import ConfigError, UsageError
from certify.evidence.bundle import directory_digest
from certify.evidence.run import Suite


@dataclass(frozen=True)
class FoundSuite:
    """One suite: its folder, its version and the defaults of its settings (``DEFAULTS`` in its package)."""

    name: str
    path: Path
    version: str = "0"
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def evidence(self) -> Suite:
        """As the run records it, with the digest of all its files."""
        return Suite(name=self.name, version=self.version, digest=directory_digest(self.path))


def find(names: Iterable[str], base: Path) -> list[FoundSuite]:
    """Find suites by name or by path (relative to ``base``). Raises UsageError with the nearest installed name."""
    installed = {point.name: point for point in entry_points(group="certify.suites")}
    found = []
    for name in names:
        path = base / name
        if name in installed:
            found.append(_installed(name, installed[name].value))
        elif "/" in name or name.startswith(".") or path.is_dir():
            found.append(_folder(name, path))
        else:
            near = get_close_matches(name, installed, 1)
            hint = f"did you mean {near[0]}?" if near else f"installed: {', '.join(sorted(installed))}"
            raise UsageError(f"--suite {name}: no installed suite and no folder of that name", hint)
    return found


def holding(arguments: Iterable[str]) -> list[FoundSuite]:
    """The installed suites that hold any of pytest's arguments, so that a single check finds its settings."""
    paths = [Path(argument.partition("::")[0]).absolute() for argument in arguments]
    found = (_installed(point.name, point.value) for point in entry_points(group="certify.suites"))
    return [suite for suite in found if any(path.is_relative_to(suite.path) for path in paths)]


def _installed(name: str, package: str) -> FoundSuite:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"suite {name}: its package {package} cannot be found", "reinstall the package that brings it")
    module = importlib.import_module(package)
    defaults = getattr(module, "DEFAULTS", {})
    return FoundSuite(name, Path(spec.submodule_search_locations[0]), getattr(module, "VERSION", "0"), defaults)


def _folder(name: str, path: Path) -> FoundSuite:
    if not path.exists():
        raise UsageError(f"--suite {name}: no such folder", "name a folder of test_*.py files, or an installed suite")
    return FoundSuite(path.resolve().name, path.resolve())


def settings(suite: FoundSuite, written: Mapping[str, Any]) -> dict[str, Any]:
    """A suite's defaults with what ``certify.yaml`` sets. Raises ConfigError for a setting the suite does not have."""
    for key, value in written.items():
        if key not in suite.defaults:
            near = get_close_matches(key, suite.defaults, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(sorted(suite.defaults)) or 'none'}"
            raise ConfigError(f"certify.yaml: settings.{suite.name}.{key}: the suite has no such setting", hint)
        if not isinstance(value, type(suite.defaults[key])):
            wanted = type(suite.defaults[key]).__name__
            raise ConfigError(f"certify.yaml: settings.{suite.name}.{key}: expected {wanted}", f"got {value!r}")
    return {**suite.defaults, **written}
