"""Python processes of certify's own, which nothing of the caller's environment may bring code into."""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
from collections.abc import Mapping
from functools import cache
from pathlib import Path

#: Variables that choose what a Python process, or pytest in it, loads.
_PREFIXES = ("PYTHON", "PYTEST", "PY_")


def own_python(module: str, *arguments: str) -> list[str]:
    """The command that runs one of certify's modules: neither the current folder nor a script's is on its path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without what could bring code in, and with ``more``."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES)} | more


def choosing_variables(environment: Mapping[str, str]) -> list[str]:
    """``NAME=value`` of every variable of an environment that chooses what a process in it loads."""
    return sorted(
        f"{name}={value}" for name, value in environment.items() if name.startswith(_PREFIXES) and _chooses(name)
    )


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


def _chooses(name: str) -> bool:
    harmless = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONHASHSEED")
    return (
        not name.startswith(("PYTEST_CURRENT", "PYTEST_XDIST", "PYTEST_VERSION", "PYTEST_THEME"))
        and name not in harmless
    )
