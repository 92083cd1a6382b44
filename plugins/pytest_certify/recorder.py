"""Tells a run's outcomes to the notary while pytest goes, and learns the verdict from it at the end."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import certify
from certify.config import Config
from certify.evidence.run import (
    BOOTS_COLD,
    DESELECTED,
    FAILED,
    FLAKY,
    NO_VERDICT,
    OWN_SUITE,
    PASSED,
    Check,
    Part,
    Run,
    Suite,
    Target,
    new_run_id,
    own_check,
    timestamp,
)
from certify.evidence.settings import deciding_settings
from certify.gate.lock import lock_path, read_lock
from certify.images.candidate import digest_of, resource_uri
from certify.nodes.owner import this_process
from certify.processes import clean_environment, own_python
from certify.trust.notary import Begin, Booted, Collected, Failing, Finish, Message, Outcome, TookPart
from pytest_certify.context import Context
from pytest_certify.notary_process import NotaryProcess
from pytest_certify.outcomes import Collector
from pytest_certify.pool import ColdBoot
from pytest_certify.targets import PlannedTarget

_OK, _FAILED, _NOTHING, _NO_VERDICT = 0, 1, 5, 6


class Recorder:
    """One per run, in the process that the user started."""

    def __init__(self, context: Context, config: pytest.Config, notary: NotaryProcess) -> None:
        self._notary = notary
        self._context = context
        self._option = config.option
        self._arguments = tuple(str(a) for a in config.invocation_params.args)
        self._collector = Collector()
        self._booted: dict[str, dict[str, Any]] = {}
        self._cold: dict[str, ColdBoot] = {}
        self._problems: list[str] = []
        self._checks = 0
        self._unsound = 0
        self._started = time.monotonic()
        self.finished: Run | None = None
        self.notes: list[str] = []

    @property
    def _signs(self) -> bool:
        return bool(self._option.sign or self._option.promote)

    def start(self) -> None:
        """Make the evidence directory. Raises EvidenceError, and KeyUnusable's text when it is to be signed and cannot."""
        context = self._context
        run = Run(
            id=context.run_id,
            status="running",
            owner=this_process(),
            product=context.config.product,
            started=timestamp(),
            command=("pytest", *self._arguments),
            environment=_environment(),
            config_digest=_config_digest(context.config, context.config_path),
            suites=tuple(
                Suite(
                    name=plan.suite,
                    version=plan.version,
                    digest=plan.digest,
                    plan=plan.plan_digest,
                    settings=context.settings[plan.suite],
                )
                for plan in context.plans
            ),
            candidates=tuple({t.candidate.digest: t.candidate.to_json() for t in context.targets}.values()),
            targets=tuple(self._target(t) for t in context.targets),
            selected=context.selected,
        )
        path = str(context.config_path) if context.config_path else None
        files = {suite.name: suite.bytes for suite in context.suites}
        self._notary.ask(Begin(str(context.directory), run, tuple(context.plans), files, self._signs, path))
        _point_latest(context.directory)

    def collected(self, ids: Iterable[str], doubtful: Iterable[str]) -> None:
        """What a process has collected."""
        self._tell(Collected(tuple(ids), tuple(doubtful)))

    def add(self, report: Any) -> None:
        """Take one of pytest's reports."""
        failing = self._collector.failing(report)
        if failing is not None:
            self._tell(Failing(failing))
        check = self._collector.add(report)
        if check is not None:
            if not self._checks:
                self._context.phases["first_check"] = round(time.monotonic() - self._started, 3)
            self._checks += 1
            self._unsound += check.outcome in (FAILED, NO_VERDICT)
            self._tell(Outcome(check))

    def was_rerun(self, check_id: str) -> bool:
        """Whether the check failed before in this run."""
        return check_id in self._collector.reran

    def told(
        self,
        booted: dict[str, dict[str, Any]],
        code: Iterable[dict[str, str]],
        cold: Iterable[dict[str, Any]] = (),
    ) -> None:
        """What a process that ran checks says at its end: how targets were booted, and what took part."""
        self._tell(TookPart(msgspec.convert(tuple(code), tuple[Part, ...])))
        for boot in (ColdBoot(**values) for values in cold):
            known = self._cold.get(boot.target)
            if known is None or known.outcome == PASSED:
                self._cold[boot.target] = boot
        self._booted = {**booted, **self._booted}

    def problem(self, reason: str) -> None:
        """Something for which no target of this run can have a verdict."""
        if reason not in self._problems:
            self._problems.append(reason)

    def finish(self, pytest_status: int, workers: int = 0) -> int:
        """Ask for the verdict of a run that had ``workers`` more processes, promote if asked. Returns the exit code.

        Raises EvidenceError.
        """
        for target, boot in self._cold.items():
            check = own_check(BOOTS_COLD, target)
            self._unsound += boot.outcome != PASSED
            found = {"outcome": boot.outcome, "reason": boot.reason, "duration": boot.seconds}
            self._tell(Outcome(Check(id=check, target=target, suite=OWN_SUITE, **found)))  # type: ignore[arg-type]
        if pytest_status not in (_OK, _NOTHING) and not self._unsound:
            self.problem(f"pytest ended with status {pytest_status} though no check failed; see what it printed")
        phases = {**self._context.phases, "total": round(time.monotonic() - self._started, 3)}
        booted = {target: Booted(**how) for target, how in self._booted.items()}
        answer = self._notary.ask(Finish(booted, phases, tuple(self._problems), workers))
        assert answer.run is not None
        self.finished = answer.run
        self.notes += [f"signed     {path}" for path in answer.signed]
        self.notes += [f"not sealed, so it can never be blessed: {answer.unsealed}"] if answer.unsealed else []
        self.notes += [f"the gate will refuse this run: {reason}" for reason in self._foreseen(self.finished)]
        return max(exit_code(self.finished, pytest_status), self._promote() if self._option.promote else _OK)

    def _foreseen(self, run: Run) -> list[str]:
        """What certify.lock, where there is one, would not let pass; said now rather than at the gate."""
        lock = read_lock(lock_path(self._context.config_path))
        if lock is None:
            return []
        told = [f"{part.kind} {part.name} took part" for part in run.code if not lock.allows(part)]
        left_out = sum(check.outcome == DESELECTED for check in run.checks)
        told += [f"{left_out} checks were left out; run the suites whole"] if left_out else []
        for suite in run.suites:
            pinned = lock.suites.get(suite.name)
            if pinned is None:
                told.append(f"certify.lock does not pin {suite.name}")
            elif (pinned.digest, pinned.plan, pinned.settings) != (suite.digest, suite.plan, suite.settings):
                told.append(f"{suite.name} is not as certify.lock pins it")
        return told if self._signs else []

    def _promote(self) -> int:
        """By the command that does nothing else: no suite has been in its process."""
        status = _OK
        for candidate in {t.candidate.digest: t.candidate for t in self._context.targets}.values():
            config = ["--config", str(self._context.config_path)] if self._context.config_path else []
            what = ["promote", resource_uri(candidate), "--to", self._option.promote]
            command = own_python("certify.cli.main", *config, *what)
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
            self.notes.append(
                f"{'promoted ' if done.returncode == 0 else 'refused  '}  {(done.stdout or done.stderr).strip()}"
            )
            status = max(status, _FAILED if done.returncode else _OK)
        return status

    def _tell(self, message: Message) -> None:
        self._notary.tell(message)

    def _target(self, planned: PlannedTarget) -> Target:
        return Target(
            id=planned.id,
            digest=planned.candidate.digest,
            config_digest=planned.candidate.config_digest,
            reference=str(planned.candidate.reference),
            platform=planned.platform.name,
            driver=planned.platform.driver,
            settings=deciding_settings(planned.platform.settings),
        )


def exit_code(run: Run, pytest_status: int) -> int:
    """0 all planned passed, or all that the command line chose · 1 a check failed or passed only on a rerun · 5 nothing
    proven · 6 no verdict; else pytest's own."""
    if pytest_status not in (_OK, _FAILED, _NOTHING):
        return pytest_status
    found = {check.outcome for check in run.checks}
    given = set(run.verdicts.values())
    if FAILED in found:
        return _FAILED
    if NO_VERDICT in found:
        return _NO_VERDICT
    if FLAKY in found:
        return _FAILED
    if PASSED not in found:
        return _NOTHING
    if "INCOMPLETE" in given:
        return _OK if run.selected and not run.twice and not run.unlisted else _NO_VERDICT
    return _OK if given == {"PASSED"} else _NO_VERDICT


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
