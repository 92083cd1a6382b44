"""Python processes of certify's own, which nothing of the caller's environment may bring code into."""

from __future__ import annotations

import os
import sys

#: Variables that choose what a Python process, or pytest in it, loads.
_PREFIXES = ("PYTHON", "PYTEST", "PY_")


def own_python(module: str, *arguments: str) -> list[str]:
    """The command that runs one of certify's modules: neither the current folder nor a script's is on its path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without what could bring code in, and with ``more``."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_PREFIXES)} | more


def choosing_variables() -> list[str]:
    """``NAME=value`` of every variable there is that chooses what this process loads."""
    return sorted(
        f"{name}={value}" for name, value in os.environ.items() if name.startswith(_PREFIXES) and _chooses(name)
    )


def _chooses(name: str) -> bool:
    harmless = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONHASHSEED")
    return (
        not name.startswith(("PYTEST_CURRENT", "PYTEST_XDIST", "PYTEST_VERSION", "PYTEST_THEME"))
        and name not in harmless
    )
