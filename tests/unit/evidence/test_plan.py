"""Plans: names without targets, reasons for skips, and a digest that sees every change."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.evidence.plan import TARGET, PlannedCheck, lacks
from tests.unit.samples import plan_of


@pytest.mark.parametrize(
    ("template", "name"),
    [
        (f"s.t::a[{TARGET}]", "s.t::a"),
        (f"s.t::a[{TARGET}-x]", "s.t::a[x]"),
        (f"s.t::a[x-{TARGET}]", "s.t::a[x]"),
        (f"s.t::a[x-{TARGET}-y]", "s.t::a[x-y]"),
    ],
)
def test_a_name_is_the_id_without_the_target(template: str, name: str) -> None:
    assert PlannedCheck(template=template).name == name
    assert PlannedCheck(template=template).id_on("app:1-vm") == template.replace(TARGET, "app:1-vm")


def test_what_may_be_skipped_and_why() -> None:
    check = PlannedCheck(template="x", platforms=("vm",), needs=("systemd",), skips=("the image has no *",))
    assert check.inapplicable("container", ()) == "applies to vm only"
    assert check.may_be_skipped("container", "applies to vm only")
    assert not check.may_be_skipped("container", "the image has no sshd")
    assert check.inapplicable("vm", ()) == lacks("systemd", "vm")
    assert check.inapplicable("vm", ("systemd",)) == ""
    assert check.may_be_skipped("vm", lacks("systemd", "vm"))
    assert check.may_be_skipped("vm", "the image has no sshd")
    assert not check.may_be_skipped("vm", lacks("network", "vm"))
    assert not check.may_be_skipped("vm", "applies to vm only")
    assert not check.may_be_skipped("vm", "")


@given(st.text(max_size=40))
def test_a_check_that_lists_nothing_may_never_be_skipped(reason: str) -> None:
    assert not PlannedCheck(template="x").may_be_skipped("vm", reason)


def test_the_digest_sees_every_check_and_no_order() -> None:
    plan = plan_of("test_a", "test_b")
    assert plan.plan_digest == plan_of("test_b", "test_a").plan_digest
    others = [plan_of("test_a"), plan_of("test_a", "test_b", skips=()), plan_of("test_a", "test_b", suite="hygiene")]
    narrower = msgspec.structs.replace(plan.checks[0], platforms=("vm",))
    others.append(msgspec.structs.replace(plan, checks=(narrower, plan.checks[1])))
    assert len({plan.plan_digest, *(other.plan_digest for other in others)}) == 5
