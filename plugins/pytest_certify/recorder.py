"""Keeps a run's evidence while pytest goes, and gives the verdict at its end."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import certify
from certify.config import Config
from certify.errors import CertifyError
from certify.evidence.bundle import Bundle
from certify.evidence.junit import junit
from certify.evidence.run import (
    FAILED,
    FLAKY,
    NO_VERDICT,
    PASSED,
    Check,
    Run,
    Target,
    complete,
    new_run_id,
    timestamp,
    verdict,
)
from certify.images.candidate import digest_of
from certify.nodes.owner import this_process
from pytest_certify.context import Context
from pytest_certify.outcomes import Collector
from pytest_certify.pool import ColdBoot
from pytest_certify.targets import PlannedTarget

_OK, _FAILED, _NOTHING, _NO_VERDICT = 0, 1, 5, 6


class Recorder:
    """One per run, in the process that the user started."""

    def __init__(self, context: Context, config: pytest.Config) -> None:
        self._context = context
        self._option = config.option
        self._arguments = tuple(str(a) for a in config.invocation_params.args)
        self._collector = Collector()
        self._booted: dict[str, dict[str, Any]] = {}
        self._checks: dict[str, Check] = {}
        self._started = time.monotonic()
        self._bundle = Bundle(context.directory)
        self.finished: Run | None = None
        self.notes: list[str] = []
        if self._signs:
            from certify.trust.bless import require_runner_key

            require_runner_key(context.config)

    @property
    def _signs(self) -> bool:
        return bool(self._option.sign or self._option.promote)

    def start(self) -> None:
        """Make the evidence directory. Raises EvidenceError."""
        context = self._context
        self._run = Run(
            id=context.run_id,
            status="running",
            owner=this_process(),
            product=context.config.product,
            started=timestamp(),
            command=("pytest", *self._arguments),
            environment=_environment(),
            config_digest=_config_digest(context.config, context.config_path),
            suites=tuple(suite.evidence() for suite in context.suites),
            candidates=tuple({t.candidate.digest: t.candidate.to_json() for t in context.targets}.values()),
            targets=tuple(self._target(t) for t in context.targets),
        )
        self._bundle = Bundle.create(context.directory, self._run)
        _point_latest(context.directory)

    def plan(self, planned: Iterable[tuple[str, str]]) -> None:
        """What will be checked, known after collection."""
        merged = dict.fromkeys([*self._run.planned, *planned])
        self._run = msgspec.structs.replace(self._run, planned=tuple(merged))
        self._bundle.write_run(self._run)

    def add(self, report: Any) -> None:
        """Take one of pytest's reports."""
        check = self._collector.add(report)
        if check is not None:
            if not self._checks:
                self._context.phases["first_check"] = round(time.monotonic() - self._started, 3)
            self._checks[check.id] = check
            self._bundle.append(check)

    def was_rerun(self, check_id: str) -> bool:
        """Whether the check failed before in this run."""
        return check_id in self._collector.reran

    def told(
        self, booted: dict[str, dict[str, Any]], deselected: Iterable[str], cold: Iterable[dict[str, Any]] = ()
    ) -> None:
        """What a process that ran checks says at its end: how targets were booted, and what was left out."""
        for boot in cold:
            self._add_cold(ColdBoot(**boot))
        self._booted = {**booted, **self._booted}
        merged = tuple(dict.fromkeys([*self._run.deselected, *deselected]))
        self._run = msgspec.structs.replace(self._run, deselected=merged)

    def _add_cold(self, boot: ColdBoot) -> None:
        """A cold boot counts as a check of its own."""
        check = f"certify::boots_cold[{boot.target}]"
        self.plan([(check, boot.target)])
        known = self._checks.get(check)
        if known is None or known.outcome == PASSED:
            found = Check(
                id=check,
                target=boot.target,
                outcome=boot.outcome,
                suite="certify",
                reason=boot.reason,
                duration=boot.seconds,
            )
            self._checks[check] = found
            self._bundle.append(found)

    def finish(self, pytest_status: int) -> int:
        """Write the final documents, sign if asked. Returns the exit code. Raises EvidenceError."""
        self._bundle.close()
        checks = complete(self._run.planned, self._checks.values())
        targets = tuple(self._target(t) for t in self._context.targets)
        self._run = msgspec.structs.replace(
            self._run,
            status="finished",
            finished=timestamp(),
            checks=checks,
            targets=targets,
            verdicts={t.id: verdict(c for c in checks if c.target == t.id) for t in targets},
            phases={**self._context.phases, "total": round(time.monotonic() - self._started, 3)},
        )
        self._bundle.write_run(self._run)
        self._bundle.write("junit.xml", junit(self._run).encode())
        self._bundle.write_manifest()
        self.finished = self._run
        status = exit_code(self._run, pytest_status)
        if self._signs:
            status = max(status, self._sign())
        return status

    def _sign(self) -> int:
        from certify.trust.bless import bless

        try:
            for path in bless(self._bundle, self._context.config):
                self.notes.append(f"signed     {path}")
            if self._option.promote:
                self._promote()
        except CertifyError as error:
            self.notes.append(f"not signed or promoted: {error}")
            return _FAILED
        return _OK

    def _promote(self) -> None:
        from certify.trust.promote import promote

        for candidate in {t.candidate.digest: t.candidate for t in self._context.targets}.values():
            done = promote(candidate, self._option.promote, self._context.config)
            self.notes.append(f"promoted   {candidate.reference} to {done.channel} (serial {done.serial})")

    def _target(self, planned: PlannedTarget) -> Target:
        booted = self._booted.get(planned.id, {})
        return Target(
            id=planned.id,
            digest=planned.candidate.digest,
            reference=str(planned.candidate.reference),
            platform=planned.platform.name,
            driver=planned.platform.driver,
            boot=booted.get("boot", "none"),
            details=booted.get("details", {}),
        )


def exit_code(run: Run, pytest_status: int) -> int:
    """0 all passed · 1 a check failed or passed only on a rerun · 5 nothing proven · 6 no verdict; else pytest's own."""
    if pytest_status not in (_OK, _FAILED, _NOTHING):
        return pytest_status
    found = {check.outcome for check in run.checks}
    if FAILED in found:
        return _FAILED
    if NO_VERDICT in found:
        return _NO_VERDICT
    if FLAKY in found:
        return _FAILED
    if "NO_VERDICT" in run.verdicts.values():
        return _NOTHING
    return pytest_status


def _environment() -> dict[str, str]:
    return {
        "certify": certify.__version__,
        "python": platform.python_version(),
        "pytest": pytest.__version__,
        "os": platform.platform(),
        "host": platform.node(),
        "interpreter": sys.implementation.name,
    }


def _config_digest(config: Config, path: Path | None) -> str:
    """Digest of certify.yaml's bytes, or of the defaults in force without one."""
    path = path or Path("certify.yaml")
    return digest_of(path.read_bytes() if path.exists() else msgspec.json.encode(config, order="sorted"))


def _point_latest(directory: Path) -> None:
    """``latest`` beside the runs, for people."""
    link = directory.parent / f".latest-{new_run_id()}"
    link.symlink_to(directory.name)
    link.replace(directory.parent / "latest")
