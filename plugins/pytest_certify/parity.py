"""``parity.json``: where the platforms of a run's candidates differ, each compared with the candidate's first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from certify.evidence.bundle import Bundle
from certify.images.store import Store
from certify.nodes.facts import Facts
from certify.nodes.parity import PARITY_SCHEMA, compare, report
from pytest_certify import suites
from pytest_certify.context import Context
from pytest_certify.plans import plans_of


def write_parity(context: Context, facts: Mapping[str, Facts]) -> list[str]:
    """Compare the facts of what was booted on several platforms, by target. Returns a line for each comparison.

    Raises CertifyError.
    """
    first = {target.candidate.digest: target for target in reversed(context.targets)}
    pairs = [(first[target.candidate.digest], target) for target in context.targets]
    pairs = [(a, b) for a, b in pairs if a.id != b.id and a.id in facts and b.id in facts]
    if not pairs:
        return []
    [plan] = plans_of(suites.find(["parity"], Path()), Store(Path(context.config.images.store)), context.kinds.values())
    allowed = suites.settings(plan, context.config.settings.get("parity", {}))["allowed"]
    found = {(a.id, b.id): compare(facts[a.id], facts[b.id], allowed) for a, b in pairs}
    compared = [report(ids, differences) for ids, differences in found.items()]
    document = {"schema": PARITY_SCHEMA, "allowed": list(allowed), "compared": compared}
    Bundle(context.directory).write("parity.json", msgspec.json.format(msgspec.json.encode(document)))
    return [
        f"parity     {a} | {b}: {len(differences)} differences, {sum(not d.allowed for d in differences)} not allowed"
        for (a, b), differences in found.items()
    ]
