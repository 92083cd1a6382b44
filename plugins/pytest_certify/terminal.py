"""What a person sees: the header, what is being waited for, and the verdict."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from certify.evidence.run import DESELECTED, FAILED, FLAKY, NO_VERDICT, PASSED, SKIPPED, Run
from pytest_certify.outcomes import harmless
from pytest_certify.pool import Booting
from pytest_certify.targets import PlannedTarget

_PLAIN_EVERY = 5.0
_REASONS = 5
_COLORS = {"PASSED": "green", "WARNED": "yellow", "FAILED": "red", "NO_VERDICT": "yellow", "INCOMPLETE": "yellow"}


def header(targets: list[PlannedTarget], evidence: str) -> list[str]:
    """Lines for pytest's header: every reference with the digest it was resolved to."""
    lines = []
    for candidate in {id(t.source): t.candidate for t in targets}.values():
        size = f"{candidate.size / 1e6:.1f} MB"
        lines.append(
            f"certify: {candidate.reference} = {candidate.digest} ({candidate.os}/{candidate.architecture}, {size})"
        )
    lines.append(
        f"certify: on {', '.join(f'{t.platform.name} ({t.platform.driver})' for t in targets)}; evidence in {evidence}"
    )
    return lines


def show_console(data: bytes) -> None:
    """A node's console as it is written (``-s``), harmless for the terminal."""
    sys.stderr.write(harmless(data.decode("utf-8", "replace").replace("\r", "")))
    sys.stderr.flush()


def _reasons(run: Run, target: str) -> Counter[str]:
    """Why checks of a target have no verdict, first lines only, with how often."""
    found = (c.reason for c in run.checks if c.target == target and c.outcome == NO_VERDICT)
    return Counter(reason.partition("\n")[0] for reason in found)


def _holes(run: Run, target: str) -> list[str]:
    """What keeps a target from passing though nothing failed."""
    if run.verdicts[target] != "INCOMPLETE":
        return []
    holes = []
    for check in (check for check in run.checks if check.target == target):
        if check.id in run.twice:
            holes.append(f"{check.id} was collected twice, or from elsewhere")
        elif check.id in run.unlisted:
            why = (
                f"was skipped for a reason its plan does not list: {check.reason}"
                if check.name
                else "is in no suite's plan"
            )
            holes.append(f"{check.id} {why}")
    return holes


class Progress:
    """Says what a run waits for: in place on a terminal, a plain line now and then elsewhere."""

    def __init__(self, reporter: Any) -> None:
        self._reporter = reporter
        self._said: dict[str, float] = {}
        self._dirty = False

    def waiting(self, booting: Booting) -> None:
        """Called again and again while ``booting`` is not ready."""
        now = time.monotonic()
        text = f"certify: {booting.spec.node_id}: {booting.status} … {now - booting.started:.0f} s"
        if self._reporter is None:
            return
        if self._reporter.isatty:
            with self._visibly():
                self._reporter.rewrite(text, erase=True)
            self._dirty = True
        elif now - self._said.setdefault(booting.spec.node_id, now) >= _PLAIN_EVERY:
            self._said[booting.spec.node_id] = now
            self._line(text)

    def waiting_cold(self, target: str) -> None:
        """Called again and again at the end of a run, while a cold boot beside its restored nodes is not over."""
        if self._reporter is not None and target not in self._said:
            self._said[target] = time.monotonic()
            self._line(f"certify: {target}: waiting for a cold boot to end; its nodes came from a memory snapshot")

    def ready(self, booting: Booting) -> None:
        """Called once when a node that was waited for has come."""
        if self._reporter is None:
            return
        if self._dirty:
            with self._visibly():
                self._reporter.rewrite("", erase=True)
            self._dirty = False
        if self._reporter.verbosity >= 0:
            self._line(f"certify: {booting.spec.node_id} ready after {booting.ready_after:.1f} s")

    def _line(self, text: str) -> None:
        with self._visibly():
            self._reporter.ensure_newline()
            self._reporter.write_line(text)

    def _visibly(self) -> AbstractContextManager[None]:
        """Past pytest's output capture, which is on while fixtures run."""
        capture = self._reporter.config.pluginmanager.get_plugin("capturemanager")
        return capture.global_and_fixture_disabled() if capture else nullcontext()


def summary(reporter: Any, run: Run, evidence: str, notes: list[str]) -> None:
    """The verdict per target, why there is none, and where the evidence lies."""
    reporter.section("certify", "=")
    markup = reporter.config.get_terminal_writer().markup
    for target in run.targets:
        count = Counter(check.outcome for check in run.checks if check.target == target.id)
        parts = [f"{count[o]} {o}" for o in (PASSED, FAILED, FLAKY, NO_VERDICT, SKIPPED, DESELECTED) if count[o]]
        verdict = run.verdicts[target.id]
        told = markup(f"{verdict:<10}", bold=True, **{_COLORS[verdict]: True})
        reporter.write_line(f"{told} {target.reference} on {target.platform}: {', '.join(parts) or 'no check ran'}")
        for check in _holes(run, target.id)[:_REASONS]:
            reporter.write_line(f"           keeps it from passing: {harmless(check)}")
        if verdict == "NO_VERDICT" and not count[NO_VERDICT]:
            reporter.write_line("           every check was skipped: nothing was proven")
        for reason, number in _reasons(run, target.id).most_common(_REASONS):
            reporter.write_line(f"           {number} × no verdict: {reason}")
    for note in notes:
        reporter.write_line(note)
    reporter.write_line(f"evidence   {evidence}")
