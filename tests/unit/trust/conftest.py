"""Projects for the tests of trust."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.samples import finished
from tests.unit.trust.project import Project, make_project, now_text


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path)


@pytest.fixture
def signed(project: Project) -> Project:
    project.sign(finished(at=now_text()))
    return project
