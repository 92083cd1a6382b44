"""Everything one ``pytest --image`` process knows before it collects: configuration, suites, targets, its node pool.

With xdist, the controller resolves images and names the run; each worker gets that as plain data and holds to it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from certify.config import Config, load_config, seconds, size_bytes
from certify.evidence.run import new_run_id
from certify.hooks import Plugins
from certify.images.resolve import Resolver
from certify.nodes.budget import available_bytes
from certify.nodes.node import ShellSettings
from pytest_certify import collection, suites, targets
from pytest_certify.pool import NodePool
from pytest_certify.suites import FoundSuite
from pytest_certify.targets import PlannedTarget


@dataclass(frozen=True)
class Context:
    """One process's view of the run."""

    run_id: str
    directory: Path
    config: Config
    config_path: Path | None
    suites: list[FoundSuite]
    settings: dict[str, dict[str, Any]]
    targets: list[PlannedTarget]
    pool: NodePool
    worker: str = ""
    shared: dict[str, Any] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)

    def suite_of(self, item: pytest.Item) -> str:
        """Name of the suite that holds an item."""
        return collection.suite_name(item, self.suites)


def prepare(config: pytest.Config) -> Context:
    """Resolve and check everything that can be checked before anything boots. Raises CertifyError."""
    option = config.option
    worker_input: dict[str, Any] = getattr(config, "workerinput", {})
    shared: dict[str, Any] = worker_input.get("certify", {})
    config_path = Path(option.certify_config) if option.certify_config else None
    settings = load_config(config_path)
    found, names = _suites(config, settings, shared)
    plugins = Plugins()
    started = time.monotonic()
    sources = targets.resolve(option.image, Resolver(plugins.transports(settings)), shared.get("digests", ()))
    phases = {"resolve": round(time.monotonic() - started, 3)}
    wanted = [name.strip() for name in (option.platform or "").split(",") if name.strip()]
    run_id = shared.get("run_id") or new_run_id()
    directory = Path(shared.get("directory") or Path(option.evidence or settings.evidence).absolute() / run_id)
    return Context(
        run_id=run_id,
        directory=directory,
        config=settings,
        config_path=config_path,
        suites=found,
        settings={s.name: suites.settings(s, settings.settings.get(s.name, {})) for s in found},
        targets=targets.choose(sources, plugins.platforms(settings), wanted),
        pool=_pool(run_id, settings, option.strict_shell, worker_input),
        worker=worker_input.get("workerid", ""),
        shared={
            "run_id": run_id,
            "directory": str(directory),
            "digests": [source.candidate.digest for source in sources],
            "suites": names,
            "base": str(config.invocation_params.dir),
        },
        phases=phases,
    )


def _suites(config: pytest.Config, settings: Config, shared: dict[str, Any]) -> tuple[list[FoundSuite], list[str]]:
    """The suites in use; in the first process pytest's arguments are extended by the folders of those asked for."""
    if shared:
        return [*suites.find(shared["suites"], Path(shared["base"])), *suites.holding(config.args)], shared["suites"]
    positional = config.args if config.args_source == pytest.Config.ArgsSource.ARGS else []
    names: list[str] = config.option.suite or ([] if positional else settings.suites)
    found = suites.find(names, config.invocation_params.dir)
    arguments = collection.arguments(positional, found)
    config.args[:] = arguments
    named = suites.holding(arguments) if positional else []
    return [*found, *(suite for suite in named if suite.name not in {s.name for s in found})], names


def _pool(run_id: str, settings: Config, strict: bool, worker_input: dict[str, Any]) -> NodePool:
    platform = settings.platforms.container
    shell = ShellSettings(seconds(platform.command_timeout), size_bytes(platform.output_limit), strict)
    budget = size_bytes(settings.memory_budget) if settings.memory_budget else available_bytes()
    workers = int(worker_input.get("workercount", 1))
    return NodePool(run_id, shell, budget // workers, worker=worker_input.get("workerid", ""))
