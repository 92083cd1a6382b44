"""pytest's reports → certify's outcomes. A check has up to three reports (setup, call, teardown), more when rerun."""

from __future__ import annotations

import re
from typing import Any

import pytest

from certify.errors import CertifyError, ImageError, NoVerdict
from certify.evidence.redact import shortened
from certify.evidence.run import FAILED, FLAKY, NO_VERDICT, PASSED, SKIPPED, Check

_WORST_LAST = (PASSED, FLAKY, SKIPPED, FAILED, NO_VERDICT)
_REASON_CAP = 4000
#: Control characters, and those that turn the direction of text round or end a line (Unicode, UAX 9).
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_COLOUR = re.compile(r"\x1b\[(?:(?:0?[01]|2[2-9]|3[1-79]|49|9[0-6])(?:;|(?=m)))*m")
_UNSAFE = re.compile(f"{_COLOUR.pattern}|{_CONTROL.pattern}")
_TRANSCRIPT_CAP = 20_000


def annotate(
    report: pytest.TestReport, call: pytest.CallInfo[Any], facts: dict[str, Any], *, colours: bool = False
) -> None:
    """Put what the run needs on the report; plain data, because xdist sends it from worker to controller. ``colours``: it is
    shown on a terminal, where pytest's own colours stay."""
    error = call.excinfo.value if call.excinfo else None
    report.certify = {  # type: ignore[attr-defined]
        **facts,
        "no_verdict": isinstance(error, NoVerdict | ImageError),
    }
    if isinstance(error, CertifyError):
        report.longrepr = harmless(str(error))  # one line what, one line what to do; no traceback through certify
    report.sections = [(name, harmless(text)) for name, text in report.sections]
    if isinstance(report.longrepr, tuple):  # a skip's place and reason; evidence has it as its suite wrote it
        report.certify["skipped"] = str(report.longrepr[2])
        report.longrepr = (*report.longrepr[:2], harmless(str(report.longrepr[2])))
    if report.failed:
        _disarm(report, colours)


def harmless(text: str, *, colours: bool = False) -> str:
    """Guests print what they like: control characters, escape sequences first of all, are shown, not sent.

    With ``colours``, text colours stay (ECMA-48, 8.3.117, no black, no background): they can hide nothing.
    """

    def shown(found: re.Match[str]) -> str:
        text = found[0]
        if len(text) > 1:
            return text if colours else f"\\x1b{text[1:]}"
        return f"\\x{ord(text):02x}"

    return _UNSAFE.sub(shown, shortened(text))


def visible(text: str) -> str:
    """Control characters shown; nothing shortened."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text).encode("utf-8", "replace").decode()


def plain(text: str) -> str:
    """Harmless, and without colours: for files."""
    return harmless(_COLOUR.sub("", text)).encode("utf-8", "replace").decode()


def _disarm(report: pytest.TestReport, colours: bool) -> None:
    """Make every text of a failure harmless: the message, the source lines with values."""
    for traceback, crash, _ in getattr(report.longrepr, "chain", ()):
        if crash is not None:
            crash.message = harmless(crash.message, colours=colours)
        for entry in traceback.reprentries:
            entry.lines = harmless("\n".join(entry.lines), colours=colours).split("\n")  # a key goes over many lines


class Collector:
    """Turns a stream of reports into one :class:`Check` per check, when its teardown has been reported."""

    def __init__(self) -> None:
        self._open: dict[str, list[Any]] = {}
        self.reran: set[str] = set()

    def failing(self, report: Any) -> Check | None:
        """What a failed report already says of its check, before the teardown."""
        ours = getattr(report, "certify", None) is not None and report.when != "teardown"
        return _check([report], reran=False) if ours and report.failed and outcome_of(report) == FAILED else None

    def add(self, report: Any) -> Check | None:
        """Take a report; return the check's outcome once it is final. Reports of other tests return None."""
        if getattr(report, "certify", None) is None and report.outcome != "rerun":
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
        if not any(r.when == "call" or not r.passed for r in reports):
            return None  # nothing was called: the end of an attempt that is run again, or of a check that never ran
        return _check(reports, reran=report.nodeid in self.reran)


def outcome_of(report: Any, *, reran: bool = False) -> str:
    """The outcome that one report alone says."""
    if report.failed:
        return NO_VERDICT if report.certify.get("no_verdict") else FAILED
    if getattr(report, "wasxfail", None) is not None:
        return FAILED  # whoever expected it: the check did not pass, or passed where its suite says that it cannot
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
        reason=_told(worst, outcome)[:_REASON_CAP] if outcome not in (PASSED, FLAKY) else "",
        duration=round(sum(r.duration for r in reports), 6),
        controls=tuple(facts["controls"]),
        node=facts["node"],
        transcript=plain(facts["transcript"])[:_TRANSCRIPT_CAP] if outcome == FAILED else "",
    )


def _told(report: Any, outcome: str) -> str:
    """Why, for a file. A skip's reason stays as its suite wrote it: it is compared with the plan."""
    text = plain(_reason(report))
    return visible(_reason(report)) if outcome == SKIPPED else text


def _reason(report: Any) -> str:
    if getattr(report, "wasxfail", None) is not None:
        return f"marked as expected to fail ({report.wasxfail or 'no reason'}): no check of an image may be"
    if isinstance(report.longrepr, tuple):
        return str(report.certify.get("skipped", report.longrepr[2])).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message) if crash is not None else str(report.longreprtext)
