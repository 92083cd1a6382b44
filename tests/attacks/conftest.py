"""What attacks start from: a project whose image fails one check of its suite, and which therefore must never be blessed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.conftest import DEMO, Done, Workspace, engine, engine_proxy, make_image, registry, work

__all__ = ["engine", "engine_proxy", "make_image", "registry", "work"]

IMAGE = DEMO + "scratch"
CONFIG = """
product: app
suites: [./checks]
channels:
  staging: {requires: {suites: [checks], platforms: [container]}, max_failed_runs: 99}
"""
GOOD = """
import pytest

def test_digest(image):
    assert image.digest.startswith("sha256:")

@pytest.mark.parametrize("number", [1, 2])
def test_number(image, number):
    assert number
"""
#: The sample's user is root: this check fails.
BAD = """
def test_user(image):
    assert image.config.user == "app"
"""


@dataclass(frozen=True)
class Project:
    """One project on disk, and what an attacker does there."""

    work: Workspace

    @property
    def path(self) -> Path:
        return self.work.path

    def write(self, name: str, text: str) -> None:
        self.work.write(name, text)

    def run(self, *arguments: str, **env: str) -> Done:
        """``pytest --image`` with ``--sign``."""
        return self.work.pytest("--image", IMAGE, "--sign", "-q", *arguments, **env)

    def gate(self) -> Done:
        return self.work.certify("gate", IMAGE, "--channel", "staging")

    def refused(self, *reasons: str) -> None:
        """The gate says no, for one of these reasons, and nothing can be promoted."""
        done = self.gate()
        assert done.status == 1, done.text
        failing = "".join(line for line in done.out.splitlines(keepends=True) if line.startswith(("FAIL", "     →")))
        assert not reasons or any(reason in failing for reason in reasons), done.out
        assert self.work.certify("promote", IMAGE, "--to", "staging").status == 1
        assert self.work.certify("verify", IMAGE).status == 1

    def allowed(self) -> None:
        done = self.gate()
        assert done.status == 0, done.text

    @property
    def verdict(self) -> str:
        [given] = self.work.last_run["verdicts"].values()
        return str(given)


def make(work: Workspace, *, bad: bool) -> Project:
    """A locked project; with ``bad`` its image cannot pass."""
    project = Project(work)
    project.write("certify.yaml", CONFIG)
    project.write("checks/test_good.py", GOOD)
    if bad:
        project.write("checks/test_bad.py", BAD)
    done = work.certify("init")
    assert done.status == 0, done.text
    return project


@pytest.fixture
def failing(work: Workspace) -> Iterator[Project]:
    """A project whose image fails one of its suite's checks."""
    yield make(work, bad=True)


@pytest.fixture
def passing(work: Workspace) -> Iterator[Project]:
    """A project whose image passes its suite."""
    yield make(work, bad=False)
