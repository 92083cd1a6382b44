"""Which suites a run uses and where they are. No suite's code is imported here.

Installed suites are packages named by entry points of the group ``certify.suites``; a path names a folder of checks, or
files of one. What a suite checks, its version and its settings' defaults are in its plan (:mod:`pytest_certify.plans`).
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from certify.errors import ConfigError, UsageError
from certify.evidence.plan import SuitePlan
from certify.evidence.run import OWN_SUITE
from certify.evidence.suite_files import SuiteFiles

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


class FoundSuite(Struct, frozen=True):
    """One suite: its folder, and what its checks' names begin with. ``files`` narrows it to some files of the folder;
    ``package`` is the installed package's name, empty for a folder."""

    name: str
    path: Path
    prefix: str
    package: str = ""
    files: tuple[Path, ...] = ()

    def encoded(self) -> bytes:
        """For the planner's process."""
        return msgspec.json.encode(self, enc_hook=str)

    @staticmethod
    def decoded(data: bytes) -> FoundSuite:
        """As :meth:`encoded`. Raises msgspec.DecodeError."""
        return msgspec.json.decode(data, type=FoundSuite, dec_hook=lambda kind, value: kind(value))

    def arguments(self) -> tuple[Path, ...]:
        """What pytest is asked to collect."""
        return self.files or (self.path,)

    def holds(self, path: Path) -> bool:
        """Whether a file of checks belongs to it."""
        return path in self.files if self.files else path.is_relative_to(self.path)

    def module_name(self, path: Path) -> str:
        """The name that the checks of a file start with, the same wherever the suite is installed."""
        relative = path.relative_to(self.path).with_suffix("")
        return ".".join((self.prefix, *relative.parts))

    def sources(self) -> Iterator[Path]:
        """Its Python files."""
        if not self.files:
            yield from sorted(p for p in self.path.rglob("*.py") if p.is_file())
            return
        yield from (*self.files, *(p for p in [self.path / "conftest.py", self.path / "__init__.py"] if p.is_file()))

    def digested(self) -> list[Path]:
        """The files its digest covers beside its folder: of an installed suite the modules beside it, which it may use; of
        files in a folder themselves."""
        if self.files:
            return list(self.sources())
        return sorted(self.path.parent.glob("*.py")) if "." in self.package else []

    @property
    def bytes(self) -> SuiteFiles:
        """The files that its digest covers."""
        return SuiteFiles("" if self.files else str(self.path), tuple(map(str, self.digested())))

    def digest(self) -> str:
        """One digest over all its files. Raises UsageError, OSError."""
        return self.bytes.digest()

    def declared(self) -> tuple[str, dict[str, Any]]:
        """``VERSION`` and ``DEFAULTS`` of its package; for the planner's process, which imports the suite."""
        module: Any = None
        if self.package:
            module = importlib.import_module(self.package)
        elif (self.path / "__init__.py").is_file():
            spec = importlib.util.spec_from_file_location(f"_certify_suite_{self.name}", self.path / "__init__.py")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        return str(getattr(module, "VERSION", "0")), dict(getattr(module, "DEFAULTS", {}))


def find(names: Iterable[str], base: Path) -> list[FoundSuite]:
    """Find suites by name or by path (relative to ``base``). Raises UsageError with the nearest installed name."""
    installed = {point.name: point.value for point in entry_points(group="certify.suites")}
    found = []
    for name in dict.fromkeys(names):
        path = base / name
        if name in installed:
            found.append(_installed(name, installed[name]))
        elif "/" in name or name.startswith(".") or path.is_dir():
            found.append(_folder(name, path))
        else:
            near = get_close_matches(name, installed, 1)
            hint = f"did you mean {near[0]}?" if near else f"installed: {', '.join(sorted(installed))}"
            raise UsageError(f"--suite {name}: no installed suite and no folder of that name", hint)
    return found


def named_by(arguments: Iterable[str], base: Path) -> list[FoundSuite]:
    """The suites of pytest's positional arguments: the installed one that holds a path, else the folder it names, or the
    files of one folder. Raises UsageError for a path that does not exist."""
    installed = [_installed(point.name, point.value) for point in entry_points(group="certify.suites")]
    found: dict[str, FoundSuite] = {}
    files: dict[Path, list[Path]] = {}
    for argument in arguments:
        path = (base / argument.partition("::")[0]).resolve()
        holder = next((suite for suite in installed if path.is_relative_to(suite.path)), None)
        if holder is not None:
            found[holder.name] = holder
        elif path.is_dir():
            found[str(path)] = _folder(argument, path)
        elif path.is_file():
            files.setdefault(path.parent, []).append(path)
        else:
            raise UsageError(f"{argument}: no such file or folder of checks", "check the path")
    for folder, named in files.items():
        if not any(suite.holds(path) for suite in found.values() for path in named):
            name = _plain(folder.name)
            found[str(folder)] = FoundSuite(name, folder, name, files=tuple(dict.fromkeys(named)))
    return list(found.values())


def together(suites: Iterable[FoundSuite]) -> list[FoundSuite]:
    """The suites, each once. Raises UsageError for two that cannot be told apart by name."""
    kept: dict[str, FoundSuite] = {}
    packages = {point.value.partition(".")[0] for point in entry_points(group="certify.suites")}
    names = {point.name for point in entry_points(group="certify.suites")}
    for suite in suites:
        if kept.setdefault(suite.name, suite) != suite:
            if kept[suite.name].path == suite.path:
                raise UsageError(f"{suite.path} is named twice, as a suite and by a file in it", "name it once")
            raise UsageError(
                f"two suites are called {suite.name}: {kept[suite.name].path} and {suite.path}", "rename one"
            )
        if not suite.package and (suite.name in {*names, OWN_SUITE} or suite.prefix in packages):
            raise UsageError(
                f"{suite.path}: its folder's name, {suite.name}, is that of an installed suite", "rename the folder"
            )
    _require_own_modules(kept.values())
    return list(kept.values())


def _require_own_modules(suites: Iterable[FoundSuite]) -> None:
    """Raise UsageError for two folders with a module of one name: Python would load the first for both."""
    seen: dict[str, FoundSuite] = {}
    for suite in suites:
        folders = {path.parent for path in suite.sources() if not (path.parent / "__init__.py").is_file()}
        for path in sorted(p for p in suite.sources() if p.parent in folders and p.name != "conftest.py"):
            other = seen.setdefault(path.name, suite)
            if other is not suite and not suite.package and not other.package:
                raise UsageError(
                    f"the suites {other.name} and {suite.name} both have a module {path.name}, and Python would use one for both",
                    "rename one, or put an empty __init__.py into both folders",
                )


def _installed(name: str, package: str) -> FoundSuite:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"suite {name}: its package {package} cannot be found", "reinstall the package that brings it")
    return FoundSuite(name, Path(spec.submodule_search_locations[0]).resolve(), package, package)


def _folder(name: str, path: Path) -> FoundSuite:
    if not path.is_dir():
        raise UsageError(f"--suite {name}: no such folder", "name a folder of test_*.py files, or an installed suite")
    path = path.resolve()
    if not _NAME.fullmatch(path.name):
        raise UsageError(
            f"--suite {name}: the folder's name names the suite, and {path.name!r} cannot",
            "use letters, digits, '_' and '-'",
        )
    return FoundSuite(path.name, path, path.name)


def _plain(name: str) -> str:
    """A folder's name as a suite's: single files may lie anywhere."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "checks"


def settings(plan: SuitePlan, written: Mapping[str, Any]) -> dict[str, Any]:
    """A suite's defaults with what ``certify.yaml`` sets. Raises ConfigError for a setting the suite does not have."""
    for key, value in written.items():
        if key not in plan.defaults:
            near = get_close_matches(key, plan.defaults, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(sorted(plan.defaults)) or 'none'}"
            raise ConfigError(f"certify.yaml: settings.{plan.suite}.{key}: the suite has no such setting", hint)
        if not isinstance(value, type(plan.defaults[key])):
            wanted = type(plan.defaults[key]).__name__
            raise ConfigError(f"certify.yaml: settings.{plan.suite}.{key}: expected {wanted}", f"got {value!r}")
    return {**plan.defaults, **written}


def require_known(written: Iterable[str], known: Iterable[str]) -> None:
    """Raise ConfigError for settings of a suite that is neither installed nor named here, with the nearest name."""
    names = {point.name for point in entry_points(group="certify.suites")} | set(known)
    for name in written:
        if name not in names:
            near = get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"suites: {', '.join(sorted(names))}"
            raise ConfigError(f"certify.yaml: settings.{name}: no such suite", hint)
