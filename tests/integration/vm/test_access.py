"""Every way into a guest by itself, and cloud-init's own suite, on an image that has them all. Slow: for `make test-all`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.images.builder import load
from tests.images.disk import build_disk
from tests.integration.conftest import Workspace
from tests.integration.vm.test_machines import LONG, suite

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cloud() -> Path:
    return build_disk(load("disk-cloud"))


@pytest.mark.parametrize("way", ["credentials", "cloud-init", "agent", "login"])
def test_each_way_leads_in(work: Workspace, cloud: Path, way: str) -> None:
    login = ", login: {user: root, password_env: SESAME}" if way == "login" else ""
    work.write("certify.yaml", f"platforms: {{vm: {{access: [{way}], forks: false{login}}}}}\n")
    word = way.partition("-")[0]
    text = f"def test_it(node):\n    assert node.run('id -u').text == '0'\n    assert {word!r} in node.how.details['access']\n"
    done = work.pytest("--image", str(cloud), "--suite", suite(work, text), timeout=LONG, SESAME="sesame")
    assert done.status == 0, done.out


def test_a_password_that_is_not_set(work: Workspace, cloud: Path) -> None:
    work.write("certify.yaml", "platforms: {vm: {access: [login], login: {password_env: NOT_SET}}}\n")
    done = work.pytest("--image", str(cloud), "--suite", suite(work, "def test_it(node):\n    pass\n"), timeout=LONG)
    assert done.status != 0
    assert "NOT_SET is not set" in done.text


def test_the_cloudinit_suite(work: Workspace, cloud: Path) -> None:
    done = work.pytest("--image", str(cloud), "--suite", "cloudinit", timeout=LONG)
    assert done.status == 0, done.out
    assert set(work.outcomes().values()) == {"passed"}
