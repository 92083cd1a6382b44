"""Works out a suite's plan by a pytest collection of its own, in a process of its own: ``python -m pytest_certify.planner``.

No conftest outside the suite, no ini file, option, environment variable or plugin of the project takes part; the suite's
code sees placeholder targets. :mod:`pytest_certify.plans` starts it and keeps what it says.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
import pytest

from certify.errors import UsageError
from certify.evidence.plan import KNOWN_AFTER_BOOT, TARGET, PlannedCheck, SuitePlan
from certify.nodes.platform import PlatformKind
from pytest_certify import collection
from pytest_certify.skips import reasons_in
from pytest_certify.suites import FoundSuite

_SHOWN = 1500
#: Marks of plugins that are not loaded here, and whose effect on outcomes certify accounts for.
_OTHERS_MARKS = {"flaky", "xdist_group"}


class Known(msgspec.Struct, frozen=True):
    """What marks may name: installed platforms, and what nodes on them may have."""

    platforms: tuple[str, ...]
    needs: tuple[str, ...]

    @classmethod
    def of(cls, kinds: Iterable[PlatformKind]) -> Known:
        """Of these platforms."""
        listed = list(kinds)
        needs = {need for kind in listed for need in kind.offers}.union(KNOWN_AFTER_BOOT)
        return cls(tuple(kind.name for kind in listed), tuple(sorted(needs)))


class Planner:
    """The hooks of a collection that only looks. ``wrong`` says what makes the suite unusable."""

    def __init__(self, suite: FoundSuite, known: Known) -> None:
        self._suite = suite
        self._known = known
        self.checks: list[PlannedCheck] = []
        self.wrong: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        collection.run_on(metafunc, [TARGET], [TARGET])

    def pytest_pycollect_makemodule(self, module_path: Path, parent: pytest.Collector) -> pytest.Module:
        """Name modules as a run does."""
        return pytest.Module.from_parent(parent, path=module_path, nodeid=self._suite.module_name(module_path))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A module that cannot be imported, or skips itself whole, would leave its checks out of the plan."""
        if report.failed:
            self.wrong.append(f"{report.nodeid}: {report.longreprtext[-_SHOWN:]}")
        elif report.skipped:
            self.wrong.append(f"{report.nodeid} is skipped as a whole when it is imported; skip inside its checks")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        import certify_fixtures

        known = {line.partition("(")[0].partition(":")[0].strip() for line in session.config.getini("markers")}
        known |= _OTHERS_MARKS
        ours = Path(certify_fixtures.__file__).parent
        reasons = reasons_in([*self._suite.sources(), *ours.rglob("*.py")])
        for item in session.items:
            try:
                self._require_sound(item, known)
                self.checks.append(self._planned(item, reasons))
            except UsageError as error:
                self.wrong.append(str(error))
        self.wrong += [f"{name} is collected twice" for name in collection.repeated([c.template for c in self.checks])]

    def _require_sound(self, item: pytest.Item, known: set[str]) -> None:
        """Raise UsageError for a check that cannot run on an image, or has a mark or argument nobody knows."""
        name = PlannedCheck(template=item.nodeid).name
        if collection.target_of(item) != TARGET or item.nodeid.count(TARGET) != 1:
            raise UsageError(f"{name}: certify runs functions and methods of plain classes, not this")
        if any("empty parameter set" in str(mark.kwargs.get("reason", "")) for mark in item.iter_markers("skip")):
            raise UsageError(f"{name}: it has no parameters, so it checks nothing", "give it some, or remove it")
        for mark in item.iter_markers():
            if mark.name not in known:
                raise UsageError(f"{name}: unknown mark {mark.name!r}", _nearest(mark.name, sorted(known)))
            allowed: tuple[str, ...] = {"platform": self._known.platforms, "needs": self._known.needs}.get(
                mark.name, ()
            )
            for argument in mark.args if allowed else ():
                if argument not in allowed:
                    raise UsageError(f"{name}: {mark.name}({argument!r}): unknown", _nearest(argument, allowed))

    def _planned(self, item: pytest.Item, reasons: Any) -> PlannedCheck:
        names: list[str] = getattr(item, "fixturenames", [])
        qualified = item.nodeid.partition("::")[2].partition("[")[0]
        skips = reasons.of(item.path, qualified, names)
        skips |= {glob.escape(str(m.kwargs.get("reason", ""))) for m in item.iter_markers("skipif")}
        skips |= {glob.escape(str(m.kwargs.get("reason") or (m.args or ("",))[0])) for m in item.iter_markers("skip")}
        return PlannedCheck(
            template=item.nodeid,
            platforms=tuple(sorted({str(a) for m in item.iter_markers("platform") for a in m.args})),
            needs=tuple(dict.fromkeys(collection.needs_of(item))),
            skips=tuple(sorted(skips - {""})),
            controls=tuple(str(a) for m in item.iter_markers("control") for a in m.args),
        )


def plan(suite: FoundSuite, known: Known) -> SuitePlan:
    """Collect here and now. Raises UsageError for a suite that cannot be collected whole."""
    import certify_fixtures

    planner = Planner(suite, known)
    where = str(suite.path)
    arguments = ["--collect-only", "-q", "-c", os.devnull, "--rootdir", where, "--confcutdir", where]
    arguments += ["-W", "error::pytest.PytestAssertRewriteWarning"]
    arguments += ["-p", "no:cacheprovider", "-p", "pytest_certify.plugin", *map(str, suite.arguments())]
    status = pytest.main(arguments, plugins=[certify_fixtures, planner])
    if planner.wrong:
        raise UsageError(f"suite {suite.name}: {planner.wrong[0]}", "mend the suite, then start again")
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise UsageError(f"suite {suite.name}: it cannot be collected (pytest ended with {int(status)})", "see above")
    if not planner.checks:
        raise UsageError(f"suite {suite.name}: no check in {where}", "checks are functions test_… in files test_*.py")
    version, defaults = suite.declared()
    return SuitePlan(
        suite=suite.name,
        prefix=suite.prefix,
        digest=suite.digest(),
        version=version,
        defaults=defaults,
        checks=tuple(planner.checks),
    )


def _nearest(name: str, known: Any) -> str:
    near = get_close_matches(str(name), list(known), 1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"


def main() -> None:
    """Read what is known and a suite from standard input, write its plan (or ``error`` and ``hint``) to the file named."""
    known = msgspec.json.decode(sys.stdin.buffer.readline(), type=Known)
    suite = FoundSuite.decoded(sys.stdin.buffer.read())
    try:
        said: Any = plan(suite, known)
    except UsageError as error:
        said = {"error": error.message, "hint": error.hint}
    Path(sys.argv[1]).write_bytes(msgspec.json.encode(said))


if __name__ == "__main__":
    main()
