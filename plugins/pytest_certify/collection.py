"""From collected pytest items to planned checks: parametrized by target, named stably, filtered before anything boots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from certify.errors import UsageError
from pytest_certify.suites import FoundSuite
from pytest_certify.targets import PlannedTarget

TARGET_FIXTURE = "certify_target"
#: Needs that are known only once a node runs; the ``node`` fixture skips for these.
KNOWN_AFTER_BOOT = ("package-manager",)
_NEEDS = ("systemd", "service", "network", "reboot", *KNOWN_AFTER_BOOT)


def parametrize(metafunc: pytest.Metafunc, targets: Sequence[PlannedTarget]) -> None:
    """Run every check that asks for a node or image once per target."""
    if TARGET_FIXTURE in metafunc.fixturenames:
        ids = [target.id for target in targets]
        metafunc.parametrize(TARGET_FIXTURE, targets, ids=ids, indirect=True, scope="session")


def target_of(item: pytest.Item) -> PlannedTarget | None:
    """The target an item runs on; None for a test that has nothing to do with images."""
    callspec: Any = getattr(item, "callspec", None)
    return callspec.params.get(TARGET_FIXTURE) if callspec else None


def module_name(path: Path) -> str:
    """The name a check's id starts with, the same wherever its suite is installed: ``certify_suites.boot.test_units``.

    The dotted name from the outermost package on; for a file in a plain folder, folder and file.
    """
    parts = [path.stem, path.parent.name]
    folder = path.parent
    while (folder / "__init__.py").exists() and (folder.parent / "__init__.py").exists():
        folder = folder.parent
        parts.append(folder.name)
    return ".".join(reversed([part for part in parts if part]))


def set_apart(item: pytest.Item) -> None:
    """Give a check a target object of its own, so that no fixture made for another check is handed to it."""
    target = target_of(item)
    if target is not None:
        callspec: Any = item.callspec  # type: ignore[attr-defined]
        callspec.params[TARGET_FIXTURE] = replace(target)


def own_nodes_last(items: list[pytest.Item], own_node: Callable[[pytest.Item], bool]) -> None:
    """Where a platform has one node only, move checks with a node of their own behind all others: each takes the shared
    node's place, which is then booted again for whatever follows."""

    def takes_its_place(item: pytest.Item) -> bool:
        target = target_of(item)
        return target is not None and target.platform.nodes_at_once == 1 and own_node(item)

    items.sort(key=takes_its_place)


def skip_inapplicable(item: pytest.Item) -> None:
    """Mark a check as skipped, with the reason, when its platform or boot mode cannot have what it needs."""
    target = target_of(item)
    if target is None:
        return
    reason = _why_inapplicable(item, target)
    if reason:
        item.add_marker(pytest.mark.skip(reason=reason))


def _why_inapplicable(item: pytest.Item, target: PlannedTarget) -> str:
    platforms = {name for mark in item.iter_markers("platform") for name in mark.args}
    if platforms and target.platform.name not in platforms:
        return f"applies to {', '.join(sorted(platforms))} only"
    offers = target.platform.offers(target.candidate)
    for need in needs_of(item):
        if need not in _NEEDS:
            raise pytest.UsageError(f"{item.nodeid}: needs({need!r}): unknown; known: {', '.join(_NEEDS)}")
        if need not in KNOWN_AFTER_BOOT and need not in offers:
            return f"needs {need}, which this image on {target.platform.name} does not have"
    return ""


def needs_of(item: pytest.Item) -> list[str]:
    """Everything the check's ``needs`` marks name."""
    return [str(need) for mark in item.iter_markers("needs") for need in mark.args]


def suite_name(item: pytest.Item, suites: Sequence[FoundSuite]) -> str:
    """The suite that holds an item, or its folder's name."""
    for suite in suites:
        if item.path.is_relative_to(suite.path):
            return suite.name
    return item.path.parent.name


def arguments(written: Sequence[str], suites: Sequence[FoundSuite]) -> list[str]:
    """pytest's positional arguments plus the suites' folders; check ids from reports are turned back into files."""
    return [*(_from_check_id(argument) for argument in written), *(str(suite.path) for suite in suites)]


def _from_check_id(argument: str) -> str:
    import importlib.util

    module, separator, rest = argument.partition("::")
    if not separator or Path(module).exists() or "/" in module or "." not in module:
        return argument
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise UsageError(f"{argument}: no installed suite has that check", "list them with --collect-only -q")
    return f"{spec.origin}::{rest}"
