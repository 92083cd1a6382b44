"""pytest's reports → certify's outcomes. A check has up to three reports (setup, call, teardown), more when rerun."""

from __future__ import annotations

from typing import Any

import pytest

from certify.errors import CertifyError, ImageError, NoVerdict
from certify.evidence.run import FAILED, FLAKY, NO_VERDICT, PASSED, SKIPPED, Check

_WORST_LAST = (PASSED, FLAKY, SKIPPED, FAILED, NO_VERDICT)
_REASON_CAP = 4000
_TRANSCRIPT_CAP = 20_000


def annotate(report: pytest.TestReport, call: pytest.CallInfo[Any], facts: dict[str, Any]) -> None:
    """Put what the run needs on the report; plain data, because xdist sends it from worker to controller."""
    error = call.excinfo.value if call.excinfo else None
    report.certify = {  # type: ignore[attr-defined]
        **facts,
        "no_verdict": isinstance(error, NoVerdict | ImageError),
        "rerun": getattr(report, "outcome", "") == "rerun",
    }
    if isinstance(error, CertifyError) and call.excinfo is not None:
        report.longrepr = str(error)  # one line what, one line what to do; no traceback through certify


class Collector:
    """Turns a stream of reports into one :class:`Check` per check, when its teardown has been reported."""

    def __init__(self) -> None:
        self._open: dict[str, list[Any]] = {}
        self.reran: set[str] = set()

    def add(self, report: Any) -> Check | None:
        """Take a report; return the check's outcome once it is final. Reports of other tests return None."""
        if getattr(report, "certify", None) is None:
            return None
        if report.outcome == "rerun":
            self.reran.add(report.nodeid)
            self._open.pop(report.nodeid, None)
            return None
        reports = self._open.setdefault(report.nodeid, [])
        reports.append(report)
        if report.when != "teardown":
            return None
        del self._open[report.nodeid]
        return _check(reports, reran=report.nodeid in self.reran)


def outcome_of(report: Any, *, reran: bool = False) -> str:
    """The outcome that one report alone says."""
    if report.failed:
        return NO_VERDICT if report.certify.get("no_verdict") else FAILED
    if report.skipped:
        return SKIPPED
    return FLAKY if reran else PASSED


def _check(reports: list[Any], *, reran: bool) -> Check:
    worst = max(reports, key=lambda r: _WORST_LAST.index(outcome_of(r, reran=reran)))
    facts: dict[str, Any] = worst.certify
    outcome = outcome_of(worst, reran=reran)
    return Check(
        id=worst.nodeid,
        target=facts["target"],
        outcome=outcome,
        suite=facts["suite"],
        reason=_reason(worst)[:_REASON_CAP] if outcome not in (PASSED, FLAKY) else "",
        duration=round(sum(r.duration for r in reports), 6),
        controls=tuple(facts["controls"]),
        node=facts["node"],
        transcript=facts["transcript"][:_TRANSCRIPT_CAP] if outcome == FAILED else "",
    )


def _reason(report: Any) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    if getattr(report, "wasxfail", None) is not None:
        return f"expected to fail: {report.wasxfail}"
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message) if crash is not None else str(report.longreprtext)
