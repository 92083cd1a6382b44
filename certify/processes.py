"""Python processes of certify's own, which nothing of the caller's environment may bring code into."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Mapping
from functools import cache
from pathlib import Path

#: What the names of variables begin with that Python, pytest or the system's loader read; none reaches our own processes.
_PREFIXES = ("PYTHON", "PYTEST", "PY_", "LD_", "GCONV_")
#: Those that choose what a Python process, or pytest in it, loads or leaves out.
_CHOOSING = frozenset(
    {
        "PYTHONPATH", "PYTHONHOME", "PYTHONPLATLIBDIR", "PYTHONUSERBASE", "PYTHONPYCACHEPREFIX", "PYTHONEXECUTABLE",
        "PYTHONOPTIMIZE", "PYTHONBREAKPOINT", "PYTHONINSPECT", "PYTHONCASEOK", "PYTEST_ADDOPTS", "PYTEST_PLUGINS",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "LD_PRELOAD", "LD_AUDIT", "GCONV_PATH",
    }
)  # fmt: skip


def own_python(module: str, *arguments: str) -> list[str]:
    """The command that runs one of certify's modules: neither the current folder nor a script's is on its path, nor, unless
    certify itself is there, what a user installed for himself."""
    site = importlib.import_module("site")
    alone = [] if Path(__file__).is_relative_to(site.getusersitepackages()) else ["-s"]
    return [sys.executable, "-P", *alone, "-m", module, *arguments]


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without what could bring code in, and with ``more``."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES)} | more


def choosing_variables(environment: Mapping[str, str]) -> list[str]:
    """``NAME=value`` of every variable of an environment that chooses what a process in it loads."""
    return sorted(
        f"{name}={value}"
        for name, value in environment.items()
        if name in _CHOOSING or (name == "PYTHONWARNINGS" and "." in value)  # a category in a module loads it
    )


def is_installed(*modules: str) -> bool:
    """Whether optional packages are there. One that is there and cannot be imported is broken: importing it says so."""
    return all(importlib.util.find_spec(name) is not None for name in modules)


@cache
def installed_places() -> tuple[Path, ...]:
    """Where the interpreter's library and installed packages are."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    bases = [None, {"base": sys.base_prefix, "platbase": sys.base_prefix, "installed_base": sys.base_prefix}]
    found = {Path(sysconfig.get_path(name, vars=values)).resolve() for name in names for values in bases}
    site = importlib.import_module("site")
    mine = [site.getusersitepackages()] if site.ENABLE_USER_SITE and "PYTHONUSERBASE" not in os.environ else []
    found |= {Path(place).resolve() for place in [*site.getsitepackages(), *mine]}
    return tuple(sorted(found))


@cache
def trusted_places() -> tuple[Path, ...]:
    """Where code lies whose owner we have to trust: :func:`installed_places`, and certify's own source roots where it is not
    installed among others."""
    root = Path(__file__).resolve().parents[1]
    ours = [root / name for name in ("certify", "plugins", "fixtures", "suites")]
    return (*installed_places(), *(ours if all(place.is_dir() for place in ours) else []))
