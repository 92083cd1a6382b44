"""Suites' plans: made by the planner's process, kept by the suite's digest."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest

import certify
from certify.errors import UsageError
from certify.evidence.plan import SuitePlan, digest_of_data
from certify.files import write_whole
from certify.images.store import Store
from certify.nodes.platform import PlatformKind
from certify.processes import clean_environment, own_python
from pytest_certify.compiled import owned
from pytest_certify.planner import Known
from pytest_certify.suites import FoundSuite

_TIMEOUT = 120.0
#: What the planner's folders' names begin with, for `certify gc`.
PREFIX = "certify-plan-"


def plans_of(suites: Sequence[FoundSuite], store: Store | None, kinds: Iterable[PlatformKind]) -> list[SuitePlan]:
    """The suites' plans, whose marks may name ``kinds`` of platforms and what they offer. With a store, a plan that was made of
    the same bytes before is used again.

    Raises UsageError for a suite that cannot be collected, and for two that have a check's name in common.
    """
    known = Known.of(kinds)
    with ThreadPoolExecutor(os.cpu_count() or 2) as workers:
        plans = list(workers.map(lambda suite: _plan_of(suite, store, known), suites))
    seen: dict[str, str] = {}
    for plan in plans:
        for check in plan.checks:
            other = seen.setdefault(check.template, plan.suite)
            if other != plan.suite:
                raise UsageError(f"suites {other} and {plan.suite} both have a check {check.name}", "rename one")
    return plans


def _plan_of(suite: FoundSuite, store: Store | None, known: Known) -> SuitePlan:
    digest = suite.digest()
    kept = _place(suite, digest, store, known)
    if kept is not None and kept.exists():
        try:
            return msgspec.json.decode(kept.read_bytes(), type=SuitePlan)
        except (msgspec.DecodeError, UnicodeDecodeError, OSError):
            pass  # damaged: made again
    plan = _ask_planner(suite, known)
    if plan.digest != digest or suite.digest() != digest:
        raise UsageError(f"suite {suite.name}: its files changed while it was planned", "start again")
    if kept is not None:
        write_whole(kept, msgspec.json.encode(plan))
    return plan


def _place(suite: FoundSuite, digest: str, store: Store | None, known: Known) -> Path | None:
    """Where a plan is kept: by everything it depends on."""
    if store is None:
        return None
    versions = [certify.__version__, pytest.__version__, version("pytest-testinfra"), sys.version]
    where = [suite.name, suite.prefix, str(suite.path), [str(f) for f in suite.files]]
    key = digest_of_data([digest, *where, versions, msgspec.to_builtins(known)])
    return store.folder("plans") / f"{key[7:]}.json"


def _ask_planner(suite: FoundSuite, known: Known) -> SuitePlan:
    with tempfile.TemporaryDirectory(prefix=owned(PREFIX)) as folder:
        answer = Path(folder) / "plan.json"
        prefix = {} if suite.package else {"PYTHONPYCACHEPREFIX": folder}
        environment = clean_environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **prefix)
        command = own_python("pytest_certify.planner", str(answer))
        try:
            done = subprocess.run(
                command,
                input=msgspec.json.encode(known) + b"\n" + suite.encoded(),
                capture_output=True,
                cwd=folder,
                env=environment,
                timeout=_TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UsageError(
                f"suite {suite.name}: collecting it took longer than {_TIMEOUT:g} s", "see its imports"
            ) from None
        if not answer.exists():
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
            raise UsageError(f"suite {suite.name}: it cannot be collected: {said[-1][:300]}", "mend the suite")
        return _read(answer.read_bytes())


def _read(answer: bytes) -> SuitePlan:
    said: dict[str, Any] = msgspec.json.decode(answer, type=dict[str, Any])
    if "error" in said:
        raise UsageError(str(said["error"]), str(said.get("hint", "")))
    return msgspec.convert(said, SuitePlan)
