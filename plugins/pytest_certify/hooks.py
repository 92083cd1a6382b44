"""What the pytest edge gives the rest of certify: the plans of suites, each made in a process of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certify.hooks import hookimpl

if TYPE_CHECKING:
    from certify.config import Config
    from certify.evidence.plan import SuitePlan
    from certify.nodes.platform import PlatformKind


@hookimpl
def certify_plan_suites(
    config: Config, names: Sequence[str], base: Path, kinds: Sequence[PlatformKind]
) -> Iterable[tuple[SuitePlan, dict[str, Any]]]:
    from pytest_certify import suites
    from pytest_certify.plans import plans_of

    found = suites.together(suites.find(names, base))
    suites.require_known(config.settings, [suite.name for suite in found])
    plans = plans_of(found, None, kinds)  # never from what was kept: a lock is worked out from the files alone
    return [(plan, suites.settings(plan, config.settings.get(plan.suite, {}))) for plan in plans]


@hookimpl
def certify_gc(is_alive: Callable[[str], bool], dry_run: bool) -> Iterable[str]:
    from pytest_certify import compiled, plans

    removed = []
    for prefix in (compiled.PREFIX, plans.PREFIX):
        for place in sorted(Path(tempfile.gettempdir()).glob(f"{prefix}*")):
            if not is_alive(compiled.owner_of(place.name, prefix)):
                if not dry_run:
                    shutil.rmtree(place, ignore_errors=True)
                removed.append(f"folder {place}")
    return removed
