"""The run is killed at every change it makes to a BMC, before it and after it; the next run goes on, and one gets through."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from certify_metal.host.inventory import MetalNode
from tests.images.builder import load
from tests.images.disk import build_disk
from tests.integration.conftest import Workspace
from tests.integration.metal.proxy import Proxy, Verdict
from tests.integration.vm.test_machines import suite

_RUNS = 40  # more than a run has changes, twice


class Killer:
    """A proxy's rule: lets so many changes pass, then kills the run; the fatal one is passed on or not."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.left = 0
        self.passes = False
        self.killed_at = ""

    def aim(self, process: subprocess.Popen[bytes], after: int, passes: bool) -> None:
        self.process, self.left, self.passes, self.killed_at = process, after, passes, ""

    def __call__(self, method: str, path: str, body: dict[str, Any]) -> Verdict:
        if method == "GET" or self.process is None:
            return None
        if self.left:
            self.left -= 1
            return None
        if not self.killed_at:
            self.killed_at = f"{method} {path.rpartition('/')[2]} {body}"
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        return None if self.passes else "drop"


@pytest.mark.slow
def test_a_run_that_is_killed_at_any_step_is_gone_on_with(
    work: Workspace, lab_nodes: Path, clean_node: MetalNode
) -> None:
    """What was written once is never fetched again, however often the run dies afterwards."""
    killer, steps, fetched = Killer(), [], []
    name = suite(work, "def test_it(node):\n    print('FETCHED', node.how.details['installer']['fetched'])\n")
    arguments = ("--image", str(build_disk(load("disk-base"))), "--platform", "metal", "--suite", name, "-s")
    with Proxy(clean_node) as proxy:
        proxy.rule = killer
        inventory = yaml.safe_load(lab_nodes.read_text())
        inventory["nodes"]["metal-1"]["bmc"] |= {"address": proxy.address}
        del inventory["nodes"]["metal-1"]["bmc"]["ca"]
        work.write("nodes.yaml", yaml.safe_dump(inventory))
        work.write("certify.yaml", "platforms: {metal: {clean: none}}\n")
        for run in range(_RUNS):
            process = work.start("pytest", *arguments)
            killer.aim(process, after=run // 2, passes=bool(run % 2))
            status = process.wait(600)
            out = (work.path / "out.log").read_text()
            fetched += [int(n) for n in re.findall(r"FETCHED (\d+)", out)]
            if not killer.killed_at:
                break
            steps.append(killer.killed_at)
    assert status == 0, out
    assert len(steps) >= 2 * 8, steps
    assert {"POST", "PATCH"} == {step.split()[0] for step in steps}
    assert fetched[-1] < 30, (
        fetched,
        steps,
    )  # the table, and what the system changed that ran in between: not 415 once more
