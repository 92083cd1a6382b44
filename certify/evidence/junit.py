"""junit.xml from a run, by the junit-xml package: one test suite per target, with digest, platform and driver."""

from __future__ import annotations

import re

import junit_xml

from certify.evidence.run import DESELECTED, FAILED, FLAKY, NO_VERDICT, SKIPPED, Check, Run

#: Characters that XML 1.0 (2.2) does not allow; guests print them.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(run: Run) -> str:
    """The document's text."""
    suites = []
    for target in run.targets:
        cases = [_case(check) for check in run.checks if check.target == target.id and check.outcome != DESELECTED]
        properties = {
            "digest": target.digest,
            "reference": target.reference,
            "platform": target.platform,
            "driver": target.driver,
            "boot": target.boot,
            "verdict": run.verdicts.get(target.id, "NO_VERDICT"),
            "run": run.id,
        }
        suites.append(junit_xml.TestSuite(target.id, cases, properties=properties, timestamp=run.started))
    return str(junit_xml.to_xml_report_string(suites))


def _case(check: Check) -> junit_xml.TestCase:
    module, _, name = check.id.partition("::")
    case = junit_xml.TestCase(name, classname=module, elapsed_sec=check.duration)
    reason, transcript = _legal(check.reason), _legal(check.transcript)
    if check.outcome == FAILED:
        case.add_failure_info(message=reason.partition("\n")[0], output=reason)
    elif check.outcome == NO_VERDICT:
        case.add_error_info(message=f"no verdict: {reason}", error_type="no-verdict")
    elif check.outcome == SKIPPED:
        case.add_skipped_info(message=reason)
    case.stdout = transcript or None
    if check.outcome == FLAKY:
        case.stderr = "passed only on a rerun"
    return case


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)
