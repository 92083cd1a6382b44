"""``certify.lock``: the suites a project's channels ask for, pinned by their bytes, plans and settings.

Written by ``certify lock``, kept in version control beside ``certify.yaml``, compared by the gate with every certificate.
Beside the suites it pins the platforms' settings that decide what is checked, and the code from outside the suites that
may take part in a run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from certify.config import Config
from certify.errors import ConfigError
from certify.evidence.plan import PlannedCheck, SuitePlan, digest_of_data
from certify.evidence.run import Part
from certify.evidence.settings import deciding_settings
from certify.files import read_regular, write_whole
from certify.images.candidate import digest_of
from certify.nodes.platform import PlatformSettings

LOCK_SCHEMA = "certify.lock/v1"
_MAX = 64 * 1024 * 1024
#: pytest plugins that certify brings, or whose outcomes it accounts for by itself (workers, reruns).
OWN_PLUGINS = frozenset({"pytest-certify", "allure-pytest", "pytest-testinfra", "pytest-xdist", "pytest-rerunfailures"})


class LockedSuite(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One suite: what must have been run, to the byte, and with which settings."""

    version: str
    digest: str
    plan: str
    prefix: str
    settings: dict[str, Any]
    checks: tuple[PlannedCheck, ...]


class Lock(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. ``plugins`` are the packages of pytest plugins that may be loaded, ``code`` other files and settings."""

    schema: str = LOCK_SCHEMA
    suites: dict[str, LockedSuite] = {}
    platforms: dict[str, dict[str, Any]] = {}
    plugins: tuple[str, ...] = ()
    code: tuple[Part, ...] = ()

    @property
    def digest(self) -> str:
        """Of what it says, however it is written."""
        return digest_of_data(self)

    def allows(self, part: Part) -> bool:
        """Whether this part of a run is known here: plugins by package, all else by its bytes too."""
        if part.kind == "plugin":
            return part.name in OWN_PLUGINS or part.name in self.plugins
        return Part(kind=part.kind, name=part.name, digest=part.digest) in self.code

    def encode(self) -> bytes:
        """As written: readable, and the same for the same content."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=1) + b"\n"


def lock_path(config_path: Path | None) -> Path:
    """Where the lock of a ``certify.yaml`` lies: beside it."""
    return (config_path or Path("certify.yaml")).with_name("certify.lock")


def read_lock(path: Path) -> Lock | None:
    """The lock; None when there is none. Raises ConfigError for one that cannot be read or contradicts itself."""
    try:
        data = read_regular(path, _MAX)
        lock = msgspec.json.decode(data, type=Lock)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: unusable ({error})", "write it anew: certify lock") from None
    for name, suite in lock.suites.items():
        made = SuitePlan(suite=name, prefix=suite.prefix, digest=suite.digest, checks=suite.checks).plan_digest
        if made != suite.plan or not suite.checks:
            raise ConfigError(
                f"{path}: suites.{name}: its checks are not those of its plan", "write it anew: certify lock"
            )
    if lock.schema != LOCK_SCHEMA or data.split() != lock.encode().split():
        raise ConfigError(
            f"{path}: not as `certify lock` writes it: edited by hand, or by another version",
            "write it anew: certify lock",
        )
    return lock


def write_lock(path: Path, lock: Lock) -> bool:
    """Write it; False when that is what was there."""
    if path.exists() and path.read_bytes() == lock.encode():
        return False
    write_whole(path, lock.encode(), sync=True)
    return True


def make_lock(config: Config, plans: Iterable[SuitePlan], settings: dict[str, dict[str, Any]], more: Extras) -> Lock:
    """The lock of these plans with the settings in force. ``more`` is what else may take part."""
    return Lock(
        suites={
            plan.suite: LockedSuite(
                version=plan.version,
                digest=plan.digest,
                plan=plan.plan_digest,
                prefix=plan.prefix,
                settings=settings[plan.suite],
                checks=tuple(sorted(plan.checks, key=lambda check: check.template)),
            )
            for plan in plans
        },
        platforms={
            name: deciding_settings(config.of_platform(name, PlatformSettings)) for name in config.platform_names
        },
        plugins=tuple(sorted(set(more.plugins) - OWN_PLUGINS)),
        code=tuple(sorted(more.code)),
    )


class Extras(Struct, frozen=True):
    """What may take part beside the suites: installed plugins' packages, and what ``allow:`` names."""

    plugins: tuple[str, ...] = ()
    code: tuple[Part, ...] = ()


def allowed_code(names: Iterable[str], base: Path) -> tuple[Part, ...]:
    """What ``allow:`` in certify.yaml names, with the bytes files have now. Raises ConfigError for a file that is missing.

    A name is a file relative to ``base`` (a conftest, an ini file, a module), or settings as a run's evidence names them
    (``-o xfail_strict=true``, ``-p mine``, ``PYTEST_ADDOPTS=-q``).
    """
    found: list[Part] = []
    for name in names:
        if name.startswith("-") or name.partition("=")[0].isupper():
            found.append(Part(kind="ini", name=name))
            continue
        try:
            digest = digest_of(read_regular(base / name, _MAX))
        except OSError as error:
            raise ConfigError(f"certify.yaml: allow: {name}: {error.strerror}", "name a file, relative to it") from None
        kind = "conftest" if Path(name).name == "conftest.py" else "module" if name.endswith(".py") else "ini"
        found.append(Part(kind=kind, name=os.path.normpath(name), digest=digest))  # as the evidence names it
    return tuple(found)
