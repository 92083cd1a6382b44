"""What took part in a run beside its suites: conftest files, the ini file, plugins, and modules from outside any package.

A suite is its bytes; this is all other code that could have changed an outcome. The gate refuses what its lock does not
name.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from _pytest.config.findpaths import load_config_dict_from_file

import certify
from certify.evidence.run import Part
from certify.images.candidate import digest_of
from certify.processes import choosing_variables
from pytest_certify.suites import FoundSuite

_PYTESTS = ("_pytest", "pytest", "pluggy")


def parts(config: pytest.Config, suites: Iterable[FoundSuite], base: Path) -> list[Part]:
    """All of it, as it is loaded now; files are named relative to ``base``, where certify.yaml is."""
    found = {*_ini(config, base), *_plugins(config), *_modules(list(suites), base)}
    if not hasattr(config, "workerinput"):  # a worker's program is xdist's, and the controller's is told
        found |= set(_main())
    return sorted(found)


def _ini(config: pytest.Config, base: Path) -> Iterator[Part]:
    """The ini file, where it says anything to pytest, and settings given on the command line or in the environment."""
    if config.inipath is not None and (load_config_dict_from_file(config.inipath) or {}):
        yield Part(kind="ini", name=_relative(config.inipath, base), digest=digest_of(config.inipath.read_bytes()))
    for override in config.option.override_ini or ():
        yield Part(kind="ini", name=f"-o {override}")
    for variable in choosing_variables():
        yield Part(kind="ini", name=variable)
    for option, given in (("--pdb", config.option.usepdb), ("--trace", config.option.trace)):
        if given:  # what is typed into a debugger is code, too
            yield Part(kind="ini", name=option)


def _plugins(config: pytest.Config) -> Iterator[Part]:
    """Plugins of installed packages by package, and any other plugin that was named, by its module."""
    known = {*_PYTESTS, "pytest_certify", "certify_fixtures"}
    for plugin, distribution in config.pluginmanager.list_plugin_distinfo():
        known.add(_top(plugin))
        yield Part(kind="plugin", name=str(distribution.project_name), version=str(distribution.version))
    for point in importlib.metadata.entry_points(group="certify"):
        if point.dist is not None and point.dist.name != "certify":  # it may bring platforms and transports
            yield Part(kind="plugin", name=point.dist.name, version=point.dist.version)
    for _, plugin in config.pluginmanager.list_name_plugin():
        is_file = isinstance(plugin, ModuleType) and _file_of(plugin) is not None  # told by its file, with the modules
        if plugin is not None and not is_file and _top(plugin) not in known and not _is_xdists(plugin, config):
            yield Part(kind="plugin", name=_top(plugin))


def _top(plugin: Any) -> str:
    """The top-level package of a plugin: of the module that it is, or of its class's."""
    name = plugin.__name__ if isinstance(plugin, ModuleType) else type(plugin).__module__
    return str(name).partition(".")[0]


def _is_xdists(plugin: Any, config: pytest.Config) -> bool:
    """Whether a plugin object is what a worker of xdist calls itself: its module has a name of the moment."""
    return hasattr(config, "workerinput") and type(plugin).__name__ == "WorkerInteractor"


def _our_places() -> list[Path]:
    """Where certify's packages lie when they are not installed among others: its source roots."""
    root = Path(certify.__file__).resolve().parents[1]
    places = [root / name for name in ("certify", "plugins", "fixtures", "suites")]
    return places if all(place.is_dir() for place in places) else []


def _modules(suites: list[FoundSuite], base: Path) -> Iterator[Part]:
    """Imported modules that belong to no installed package, no suite and not to certify."""
    installed = [*_installed_places(), *_our_places()]
    sources = {file for suite in suites for file in suite.digested()}
    folders = [suite.path for suite in suites if not suite.files]
    usual = tuple(f"{place}{os.sep}" for place in installed)
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if isinstance(name, str) and name.startswith(usual) and os.pardir not in name:
            continue  # most of them: nothing to look up
        file = _file_of(module)
        if file is None and _is_from_elsewhere(module):
            yield Part(kind="module", name=module.__name__)
        if file is None or file in sources or any(file.is_relative_to(folder) for folder in (*installed, *folders)):
            continue
        kind = "conftest" if file.name == "conftest.py" else "module"
        yield Part(kind=kind, name=_relative(file, base), digest=digest_of(file.read_bytes()))


def _main() -> Iterator[Part]:
    """The program that runs, where it is not pytest's own: ``-c``, a script."""
    main = sys.modules.get("__main__")
    name = getattr(main, "__file__", None)
    if name is None:
        yield Part(kind="module", name="__main__")
        return
    file = Path(name).resolve()
    scripts, installed = Path(sysconfig.get_path("scripts")).resolve(), _installed_places()
    if file.parent != scripts and not any(file.is_relative_to(folder) for folder in installed) and file.suffix != ".py":
        yield Part(kind="module", name=str(file), digest=digest_of(file.read_bytes()) if file.is_file() else "")


def _is_from_elsewhere(module: ModuleType) -> bool:
    """Whether a module was loaded, but not from a plain file: out of an archive, or by a loader of somebody's own."""
    spec = getattr(module, "__spec__", None)
    if spec is None or spec.origin in (None, "built-in", "frozen") or module.__name__ == "__main__":
        return False
    return bool(spec.has_location)


def _file_of(module: ModuleType | None) -> Path | None:
    name: Any = getattr(module, "__file__", None) or getattr(getattr(module, "__spec__", None), "origin", None)
    if not isinstance(name, str) or not name.endswith((".py", ".pyc", ".so")):
        return None
    path = Path(name)
    return path.resolve() if path.is_file() else None


def _installed_places() -> list[Path]:
    """Where the interpreter's library and installed packages are."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    bases = [None, {"base": sys.base_prefix, "platbase": sys.base_prefix, "installed_base": sys.base_prefix}]
    found = {Path(sysconfig.get_path(name, vars=values)).resolve() for name in names for values in bases}
    site = importlib.import_module("site")
    mine = [site.getusersitepackages()] if site.ENABLE_USER_SITE and "PYTHONUSERBASE" not in os.environ else []
    found |= {Path(place).resolve() for place in [*site.getsitepackages(), *mine]}
    return sorted(found)


def _relative(path: Path, base: Path) -> str:
    try:
        return path.resolve().relative_to(base.resolve()).as_posix()
    except ValueError:
        return str(path)
