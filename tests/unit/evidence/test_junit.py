"""junit.xml: well-formed whatever a guest printed, with every outcome told apart."""

from __future__ import annotations

from xml.etree import ElementTree

from hypothesis import given
from hypothesis import strategies as st

from certify.evidence.junit import junit
from tests.unit.samples import DIGEST, check, finished


def test_every_outcome_is_told_apart() -> None:
    run = finished(
        check("test_a"),
        check("test_b", "failed", reason="assert 1 == 2", transcript="$ false"),
        check("test_c", "skipped", reason="needs systemd"),
        check("test_d", "no-verdict", reason="node lost"),
        check("test_e", "passed-on-rerun"),
    )
    suite = ElementTree.fromstring(junit(run)).find("testsuite")
    assert suite is not None
    properties = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert (properties["digest"], properties["platform"], properties["verdict"]) == (DIGEST, "container", "FAILED")
    kinds = [[child.tag for child in case] for case in suite.iter("testcase")]
    assert kinds == [[], ["failure", "system-out"], ["skipped"], ["error"], ["system-err"]]


@given(st.text(max_size=100), st.text(max_size=100))
def test_anything_a_guest_prints_stays_well_formed(reason: str, transcript: str) -> None:
    run = finished(check("test_a", "failed", reason=reason, transcript=transcript))
    ElementTree.fromstring(junit(run))
