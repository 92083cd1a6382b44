"""Everything one ``pytest --image`` process knows before it collects: configuration, suites, plans, targets, its node pool.

With xdist, the controller resolves images, plans suites and names the run; each worker gets that as plain data and holds
to it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from certify.config import Config
from certify.errors import UsageError
from certify.evidence.plan import PlannedCheck, SuitePlan
from certify.evidence.run import new_run_id
from certify.gate.lock import lock_path, read_lock
from certify.gate.policy import policy_of
from certify.hooks import Plugins
from certify.images.resolve import Resolver
from certify.images.store import Store
from certify.models import size_bytes
from certify.nodes.budget import available_bytes
from certify.nodes.platform import PlatformKind
from pytest_certify import collection, suites, targets
from pytest_certify.plans import plans_of
from pytest_certify.pool import Keeper, NodePool
from pytest_certify.suites import FoundSuite
from pytest_certify.targets import PlannedTarget


@dataclass(frozen=True)
class Context:
    """One process's view of the run. ``pool`` makes its pool of nodes; ``selected`` says that the command line chooses among the
    suites' checks."""

    run_id: str
    directory: Path
    config: Config
    config_path: Path | None
    kinds: dict[str, PlatformKind]
    suites: list[FoundSuite]
    plans: list[SuitePlan]
    settings: dict[str, dict[str, Any]]
    targets: list[PlannedTarget]
    pool: Callable[[Keeper], NodePool]
    selected: bool = False
    worker: str = ""
    shared: dict[str, Any] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)

    def suite_of(self, item: pytest.Item) -> str:
        """Name of the suite that holds an item; empty when none does."""
        found = collection.suite_holding(item.path, self.suites)
        return found.name if found else ""

    @property
    def home(self) -> Path:
        """Where certify.yaml is, or would be."""
        return (self.config_path or Path("certify.yaml")).absolute().parent

    def planned(self) -> dict[str, tuple[PlannedCheck, PlannedTarget]]:
        """Every planned check on every target, by its id."""
        checks = [check for plan in self.plans for check in plan.checks]
        return {check.id_on(target.id): (check, target) for target in self.targets for check in checks}


def prepare(config: pytest.Config) -> Context:
    """Resolve, plan and check everything that can be checked before anything boots. Raises CertifyError."""
    if sys.flags.optimize:
        raise UsageError("Python runs with -O, which leaves assertions out", "unset PYTHONOPTIMIZE, run without -O")
    option = config.option
    worker_input: dict[str, Any] = getattr(config, "workerinput", {})
    shared: dict[str, Any] = worker_input.get("certify", {})
    config_path = Path(option.certify_config) if option.certify_config else None
    plugins = Plugins()
    settings, kinds = plugins.config(config_path), plugins.platform_kinds()
    if option.promote:
        policy_of(settings, option.promote, None)  # a channel that nobody has is a mistake to say now
    read_lock(lock_path(config_path))  # one that cannot be read is a mistake to say now
    found, phases = _suites(config, settings, config_path, shared), {}
    started = time.monotonic()
    plans = (
        msgspec.convert(shared["plans"], list[SuitePlan])
        if shared
        else plans_of(found, _store(settings), kinds.values())
    )
    phases["plan"] = round(time.monotonic() - started, 3)
    started = time.monotonic()
    sources = targets.resolve(option.image, Resolver(plugins.transports(settings)), shared.get("digests", ()))
    phases["resolve"] = round(time.monotonic() - started, 3)
    wanted = [name.strip() for name in (option.platform or "").split(",") if name.strip()]
    run_id = shared.get("run_id") or new_run_id()
    directory = Path(shared.get("directory") or Path(option.evidence or settings.evidence).absolute() / run_id)
    return Context(
        run_id=run_id,
        directory=directory,
        config=settings,
        config_path=config_path,
        kinds=kinds,
        suites=found,
        plans=plans,
        settings={plan.suite: suites.settings(plan, settings.settings.get(plan.suite, {})) for plan in plans},
        targets=targets.choose(sources, plugins.platforms(settings), kinds, wanted),
        pool=partial(_pool, run_id, settings, option.strict_shell, worker_input),
        selected=collection.selects([str(argument) for argument in config.invocation_params.args]),
        worker=worker_input.get("workerid", ""),
        shared={
            "run_id": run_id,
            "directory": str(directory),
            "digests": [source.candidate.digest for source in sources],
            "suites": [suite.encoded().decode() for suite in found],
            "plans": msgspec.to_builtins(plans),
            "arguments": list(config.args),
        },
        phases=phases,
    )


def _suites(
    config: pytest.Config, settings: Config, config_path: Path | None, shared: dict[str, Any]
) -> list[FoundSuite]:
    """The suites in use; pytest is told to collect those of ``--suite`` beside what its arguments name."""
    if shared:
        config.args[:] = shared["arguments"]
        found = [FoundSuite.decoded(suite.encode()) for suite in shared["suites"]]
    else:
        base, home = config.invocation_params.dir, (config_path or Path("certify.yaml")).absolute().parent
        positional = config.args if config.args_source == pytest.Config.ArgsSource.ARGS else []
        arguments = [collection.resolved(argument, base) for argument in positional]
        by_name = {Path(path).name: str((home / path).resolve()) for path in settings.suites if "/" in path}
        asked = suites.find([by_name.get(name, name) for name in config.option.suite or ()], base)
        if not asked and not positional:
            asked = suites.find(settings.suites, home)  # a path in certify.yaml is beside it
        found = suites.together([*asked, *suites.named_by(arguments, base)])
        config.args[:] = [*arguments, *(str(suite.path) for suite in asked)]
        suites.require_known(settings.settings, [suite.name for suite in [*found, *_configured(settings, home)]])
    return found


def _configured(settings: Config, base: Path) -> list[FoundSuite]:
    """The suites that ``certify.yaml`` names, where they can be found: their settings are no mistake."""
    found = []
    for name in settings.suites:
        try:
            found += suites.find([name], base)
        except UsageError:
            continue  # not asked for in this run
    return found


def _store(settings: Config) -> Store:
    return Store(Path(settings.images.store))


def _pool(run_id: str, settings: Config, strict: bool, worker_input: dict[str, Any], keeper: Keeper) -> NodePool:
    budget = size_bytes(settings.memory_budget) if settings.memory_budget else available_bytes()
    workers = int(worker_input.get("workercount", 1))
    return NodePool(run_id, budget // workers, keeper, strict=strict, worker=worker_input.get("workerid", ""))
