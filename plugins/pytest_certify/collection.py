"""From collected pytest items to planned checks: run on every target, named stably, filtered before anything boots."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from certify.errors import UsageError
from pytest_certify.suites import FoundSuite
from pytest_certify.targets import PlannedTarget

TARGET_FIXTURE = "certify_target"


def run_on(metafunc: pytest.Metafunc, targets: Sequence[Any], ids: Sequence[str]) -> None:
    """Run every check once per target, whether or not it asks for a node: each has an outcome that counts."""
    metafunc.parametrize(TARGET_FIXTURE, targets, ids=ids, indirect=True, scope="session")


def target_of(item: pytest.Item) -> Any:
    """The target an item runs on; None for what is no check of a suite (a ``unittest`` method, a doctest)."""
    callspec: Any = getattr(item, "callspec", None)
    return callspec.params.get(TARGET_FIXTURE) if callspec else None


def set_apart(items: Iterable[pytest.Item], place: Callable[[pytest.Item], Hashable]) -> None:
    """Give checks of one ``place`` a target object of their own, so that no fixture made for others is handed to them."""
    made: dict[Hashable, Any] = {}
    for item in items:
        callspec: Any = item.callspec  # type: ignore[attr-defined]
        target = callspec.params[TARGET_FIXTURE]
        callspec.params[TARGET_FIXTURE] = made.setdefault(place(item), replace(target))


def own_nodes_last(items: list[pytest.Item], own_node: Callable[[pytest.Item], bool]) -> None:
    """Where a platform has one node only, move checks with a node of their own behind all others: each takes the shared
    node's place, which is then booted again for whatever follows."""

    def takes_its_place(item: pytest.Item) -> bool:
        target: PlannedTarget | None = target_of(item)
        return target is not None and target.platform.nodes_at_once == 1 and own_node(item)

    items.sort(key=takes_its_place)


def needs_of(item: pytest.Item) -> list[str]:
    """Everything the check's ``needs`` marks name."""
    return [str(need) for mark in item.iter_markers("needs") for need in mark.args]


def suite_holding(path: Path, suites: Sequence[FoundSuite]) -> FoundSuite | None:
    """The suite that a file of checks belongs to."""
    return next((suite for suite in suites if suite.holds(path)), None)


def resolved(argument: str, base: Path) -> str:
    """One of pytest's positional arguments with its path made absolute; a check's id from a report becomes file and name.

    Raises UsageError for an id that no installed suite has.
    """
    module, separator, rest = argument.partition("::")
    path = base / module
    if separator and not path.exists() and "/" not in module and "." in module:
        path = _origin(argument, module)
    return f"{path.resolve()}{separator}{rest}"


def _origin(argument: str, module: str) -> Path:
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise UsageError(f"{argument}: no installed suite has that check", "list them with --collect-only -q")
    return Path(spec.origin)


def from_elsewhere(items: Sequence[pytest.Item]) -> set[str]:
    """Ids of the checks whose module was not loaded from the file that was collected, but from another of its name."""
    known: dict[tuple[Path, object], bool] = {}
    found = set()
    for item in items:
        file = getattr(getattr(item, "module", None), "__file__", None)
        key = (item.path, file)
        if key not in known:  # once per module: looking a path up takes longer than all else here
            known[key] = isinstance(file, str) and Path(file).resolve() == item.path.resolve()
        if not known[key]:
            found.add(item.nodeid)
    return found


def with_others_modules(suites: Sequence[FoundSuite]) -> set[str]:
    """Names of the suites one of whose modules was loaded under its name from elsewhere, so that their checks used that."""
    return {
        suite.name
        for suite in suites
        for path in suite.sources()
        if path.name != "conftest.py" and not (path.parent / "__init__.py").is_file()
        for file in [getattr(sys.modules.get(path.stem), "__file__", None)]
        if isinstance(file, str) and Path(file).resolve() != path.resolve()
    }


_SELECTING = ("-k", "-m", "--deselect", "--lf", "--last-failed", "--sw", "--stepwise", "--nf", "--ignore")


def selects(arguments: Sequence[str]) -> bool:
    """Whether a command line itself chooses among a suite's checks; what an ini file or a conftest leaves out does not."""
    return any(
        "::" in argument or argument.startswith(_SELECTING[:2]) or argument.partition("=")[0] in _SELECTING
        for argument in arguments
    )


def repeated(ids: Sequence[str]) -> list[str]:
    """Those that are there more than once."""
    return sorted(check for check, count in Counter(ids).items() if count > 1)
