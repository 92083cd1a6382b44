"""What pytest itself says took part in a run beside its suites: the ini file, options that are code, plugins.

Files of code are told by :mod:`pytest_certify.watch`. The gate refuses what its lock does not name.
"""

from __future__ import annotations

import argparse
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from _pytest.config.findpaths import load_config_dict_from_file

from certify.evidence.run import Part
from certify.images.candidate import digest_of
from certify.trust.witness import is_installed_file

_PYTESTS = ("_pytest", "pytest", "pluggy")


def parts(config: pytest.Config, options: argparse.Namespace) -> list[Part]:
    """All of it, as it is now; files are named relative to where certify.yaml is."""
    base = Path(options.certify_config or "certify.yaml").absolute().parent.resolve()
    return sorted({*_ini(config, options, base), *_plugins(config)})


def _ini(config: pytest.Config, options: argparse.Namespace, base: Path) -> Iterator[Part]:
    """The ini file, where it says anything to pytest, and settings given on the command line."""
    if config.inipath is not None and (load_config_dict_from_file(config.inipath) or {}):
        path = config.inipath.resolve()
        name = path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)
        yield Part(kind="ini", name=name, digest=digest_of(path.read_bytes()))
    for override in options.override_ini or ():
        yield Part(kind="ini", name=f"-o {override}")
    for option, given in (("--pdb", options.usepdb), ("--trace", options.trace)):
        if given:  # what is typed into a debugger is code, too
            yield Part(kind="ini", name=option)


def _plugins(config: pytest.Config) -> Iterator[Part]:
    """Plugins of installed packages by package, and any other plugin that was named, by its module."""
    known = {*_PYTESTS, "pytest_certify", "certify_fixtures"}
    for plugin, distribution in config.pluginmanager.list_plugin_distinfo():
        known.add(_top(plugin))
        yield _distribution(str(distribution.project_name), str(distribution.version), distribution)
    for point in importlib.metadata.entry_points(group="certify"):
        if point.dist is not None:  # it may bring platforms and transports
            yield _distribution(point.dist.name, point.dist.version, point.dist)
    for _, plugin in config.pluginmanager.list_name_plugin():
        file = getattr(plugin, "__file__", None) if isinstance(plugin, ModuleType) else None
        is_conftest = file is not None and Path(file).name == "conftest.py"  # an installed one is its suite's
        is_file = is_conftest or (file is not None and not is_installed_file(Path(file).resolve()))  # told by its file
        if plugin is not None and not is_file and _top(plugin) not in known and not _is_xdists(plugin, config):
            yield Part(kind="plugin", name=_top(plugin))


def _distribution(name: str, version: str, distribution: Any) -> Part:
    """An installed package by its name; one whose metadata lies elsewhere takes nobody's name."""
    place = Path(distribution.locate_file("")).resolve()
    return Part(kind="plugin", name=name if is_installed_file(place) else f"{name} in {place}", version=version)


def _top(plugin: Any) -> str:
    """The top-level package of a plugin: of the module that it is, or of its class's."""
    name = plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__
    return str(name).partition(".")[0]


def _is_xdists(plugin: Any, config: pytest.Config) -> bool:
    """Whether a plugin object is what a worker of xdist calls itself: its module has a name of the moment."""
    return hasattr(config, "workerinput") and type(plugin).__name__ == "WorkerInteractor"
