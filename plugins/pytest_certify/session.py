"""The pytest hooks of a ``pytest --image`` session. Registered only when ``--image`` is given."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from certify.errors import CertifyError, ImageError, KeyUnusable, UsageError
from certify.evidence.plan import lacks
from certify.evidence.redact import shortened
from certify.images.store import Store
from certify.nodes.kept import KeptNodes
from certify.nodes.owner import this_process
from pytest_certify import collection, outcomes, terminal
from pytest_certify.allure_link import attach_console, attach_failure
from pytest_certify.allure_results import keep_results, shorten_others
from pytest_certify.context import Context, prepare
from pytest_certify.handout import Handout, has_own_node
from pytest_certify.node_evidence import NodeEvidence
from pytest_certify.outcomes import harmless
from pytest_certify.parity import write_parity
from pytest_certify.pool import boot_facts
from pytest_certify.recorder import Recorder
from pytest_certify.refusals import cut_below_a_suite, of_an_image_run
from pytest_certify.targets import PlannedTarget
from pytest_certify.telling import begin_telling
from pytest_certify.took_part import parts


class CertifySession:
    """Resolves, collects, hands out nodes, keeps the evidence: its hooks are the whole of certify's effect on pytest."""

    def __init__(self, config: pytest.Config) -> None:
        """Before any conftest is loaded: from now on every file of code is told before it runs."""
        of_an_image_run(config.known_args_namespace)
        self._notary = begin_telling(config)
        self._workers = 0
        self.context: Context
        self.recorder: Recorder | None = None
        self.nodes: Handout
        self._told: set[int] = set()
        self._described_item: tuple[str, dict[str, Any]] = ("", {})

    # -- start -----------------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        self._config = config
        try:
            self.context = prepare(config)
            self._kept = NodeEvidence(
                self.context.directory,
                config.option.keep_node or "never",
                terminal.show_console if config.option.capture == "no" else None,
            )
            self._pool = self.context.pool(self._kept)
            cut_below_a_suite(Path(config.known_args_namespace.confcutdir), self.context.suites)
            if self._notary is not None:
                self.recorder = Recorder(self.context, config, self._notary)
                self.recorder.start()
        except CertifyError as error:
            if isinstance(error, UsageError | ImageError) or error.exit_code == KeyUnusable.exit_code:
                raise pytest.UsageError(harmless(str(error))) from None
            pytest.exit(harmless(str(error)), returncode=error.exit_code)
        if not hasattr(config.option, "allure_report_dir") or not hasattr(config.option, "capture"):
            raise pytest.UsageError("certify needs the plugins allure_pytest and capture, which -p no:… leaves out")
        config.addinivalue_line("filterwarnings", "error::pytest.PytestReturnNotNoneWarning")  # a check asserts
        self._alluredir, config.option.allure_report_dir = config.option.allure_report_dir, None
        self._allure = self.context.directory / "allure-results"
        if not config.option.collectonly:
            keep_results(config, self._allure)
        import certify_fixtures

        if config.pluginmanager.register(certify_fixtures, "certify-fixtures") is None:
            raise pytest.UsageError(
                "--image needs the plugin certify-fixtures, which -p no:certify-fixtures leaves out"
            )

    def pytest_sessionstart(self) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        self._config.option.allure_report_dir = str(self._allure)  # for those that add files of their own
        self._colours = bool(reporter and reporter.hasmarkup)
        self._progress = terminal.Progress(reporter if self.recorder else None)
        isolation = self._config.option.isolation or "run"
        self.nodes = Handout(self._pool, self.context, isolation, self._progress)
        distributes = self._config.pluginmanager.has_plugin("dsession")
        if not self._config.option.collectonly and not distributes:
            self._pool.prepare(self.context.targets)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """xdist: what a worker must hold to."""
        self._workers += 1
        node.workerinput["certify"] = self.context.shared

    def pytest_report_header(self) -> list[str]:
        return terminal.header(self.context.targets, str(self.context.directory))

    # -- collection ------------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        collection.run_on(metafunc, self.context.targets, [target.id for target in self.context.targets])

    def pytest_pycollect_makemodule(self, module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
        """Name a suite's modules as its plan does, not by where they happen to lie."""
        suite = collection.suite_holding(module_path, self.context.suites)
        if suite is None:
            return None
        return pytest.Module.from_parent(parent, path=module_path, nodeid=suite.module_name(module_path))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        planned = self.context.planned()
        for item in items:
            if collection.target_of(item) is None:
                raise pytest.UsageError(f"{item.nodeid}: certify runs functions and methods of plain classes, not this")
            check, target = planned.get(item.nodeid, (None, None))
            if check and target:
                reason = check.inapplicable(target.platform.name, target.platform.offers(target.candidate))
                if reason:
                    item.add_marker(pytest.mark.skip(reason=reason))
        collection.set_apart(items, lambda item: self.nodes.key(item, collection.target_of(item)))
        collection.own_nodes_last(items, has_own_node)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if self._config.option.collectonly:
            return
        if self.recorder and not self._config.pluginmanager.has_plugin("dsession"):
            recorder, ids = self.recorder, [item.nodeid for item in session.items]
            self._guarded(lambda: recorder.collected(ids, self._doubtful(session.items)))
        planned = [(item, target) for item in session.items if (target := collection.target_of(item))]
        for item, target in planned:
            if not _skipped(item) and "image_files" in getattr(item, "fixturenames", ()):
                self._pool.files(target, self.context.config.images)
        needed = {self.nodes.key(item, target): target for item, target in planned if not _skipped(item)}
        shared = {key: target for key, target in needed.items() if key[0] == "run"}
        self._pool.start({**shared, **needed}.items())

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """xdist: the controller learns from its workers what was collected."""
        del node
        if self.recorder:
            recorder = self.recorder
            self._guarded(lambda: recorder.collected(ids, collection.repeated(ids)))

    def _doubtful(self, items: list[pytest.Item]) -> list[str]:
        """Ids that stand for more than one check, or for one that is not its suite's own."""
        owners = {
            check.id_on(t.id): p.suite for p in self.context.plans for check in p.checks for t in self.context.targets
        }
        strange = [i.nodeid for i in items if owners.get(i.nodeid, "") != self.context.suite_of(i)]
        strange += sorted(collection.from_elsewhere(items))
        shared = collection.with_others_modules(self.context.suites)
        strange += [i.nodeid for i in items if self.context.suite_of(i) in shared]
        return [*collection.repeated([item.nodeid for item in items]), *strange]

    # -- checks ----------------------------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        """Know which check runs; skip what the booted node cannot have."""
        self.nodes.begins(item)
        yield
        node, _ = self.nodes.used_by(item)
        if node is not None and "package-manager" in collection.needs_of(item) and not node.facts.packages:
            pytest.skip(lacks("package-manager", node.how.platform))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
        try:
            yield
        finally:
            target = collection.target_of(item)
            if target is not None:
                self.nodes.release(item, target, nextitem)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        target = collection.target_of(item)
        if target is None:
            return report
        node, before = self.nodes.used_by(item)
        facts = {**self._described(item, target), "node": node.name if node else "", "transcript": ""}
        if report.failed:
            self._kept.failed.add(target.id)
            self._attach_console_of(call)
            if node is not None:
                facts["transcript"] = shortened(node.transcript_since(before))
                attach_failure(node, str(facts["transcript"]))
        outcomes.annotate(report, call, facts, colours=self._colours)
        return report

    def _attach_console_of(self, call: pytest.CallInfo[Any]) -> None:
        """What a node had said that never came up, attached to the first check that needed it."""
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, CertifyError) and error.console and id(error) not in self._told:
            self._told.add(id(error))  # the pool raises the same one for every check, and keeps it
            attach_console(error.console)

    def _described(self, item: pytest.Item, target: PlannedTarget) -> dict[str, Any]:
        """What every report of an item says about it; worked out once."""
        if self._described_item[0] != item.nodeid:
            controls = [str(c) for mark in item.iter_markers("control") for c in mark.args]
            facts = {"target": target.id, "suite": self.context.suite_of(item), "controls": controls}
            self._described_item = (item.nodeid, facts)
        return self._described_item[1]

    def pytest_runtest_logreport(self, report: Any) -> None:
        recorder = self.recorder
        if recorder:
            self._guarded(lambda: recorder.add(report))
            if getattr(report, "certify", None) is None:  # not ours: of a worker that died while it ran this
                self._guarded(lambda: recorder.collected((), (report.nodeid,)))

    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        if getattr(report, "certify", None) and report.failed and report.certify["no_verdict"]:
            return "no verdict", "N", ("NO VERDICT", {"yellow": True})
        if self.recorder and report.when == "call" and report.passed and self.recorder.was_rerun(report.nodeid):
            return "passed on rerun", "r", ("PASSED ON RERUN", {"yellow": True})
        return None

    # -- end -------------------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output = getattr(self._config, "workeroutput", None)
        pool = self._pool
        cold = [asdict(boot) for boot in pool.cold_boots(self._progress.waiting_cold)]
        try:
            pool.close()
        finally:
            if pool.kept:
                KeptNodes(Store(Path(self.context.config.images.store))).remember(this_process())
            code = msgspec.to_builtins(parts(self._config, self._config.option))
            told: dict[str, Any] = {"booted": boot_facts(pool.retired), "code": code, "cold": cold}
            if output is not None:
                output["certify"] = {"told": told, "doubtful": self._doubtful(session.items)}
            elif self.recorder:
                self.recorder.told(**told)
                if not self._workers:
                    self.recorder.collected((), self._doubtful(session.items))
                self._guarded(lambda: self._finish(session))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """xdist: a worker has ended and says how its nodes were booted."""
        output = getattr(node, "workeroutput", {}).get("certify")
        if self.recorder and output:
            self.recorder.told(**output["told"])
            self.recorder.collected((), output["doubtful"])
        elif self.recorder:
            self.recorder.problem(f"worker {node.gateway.id} ended before it could tell what took part in it")

    def _finish(self, session: pytest.Session) -> None:
        assert self.recorder is not None
        self.recorder.notes += write_parity(self.context, self._pool.facts)
        shorten_others(self._allure)
        if self._alluredir:
            shutil.copytree(self._allure, self._alluredir, dirs_exist_ok=True)
        session.exitstatus = self.recorder.finish(int(session.exitstatus), self._workers)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self.recorder and self.recorder.finished:
            pool = self._pool
            kept = [f"node kept  {b.spec.node_id}: {b.future.result().how.details}" for b in pool.kept]
            kept += ["           remove them: certify gc --kept"] if kept else []
            left = [f"left       {reason}; remove it later: certify gc" for reason in pool.left]
            notes = [*self.recorder.notes, *kept, *left]
            terminal.summary(terminalreporter, self.recorder.finished, str(self.context.directory), notes)

    def _guarded(self, action: Any) -> None:
        try:
            action()
        except CertifyError as error:
            pytest.exit(str(error), returncode=6)


def _skipped(item: pytest.Item) -> bool:
    return any(True for _ in item.iter_markers("skip"))
