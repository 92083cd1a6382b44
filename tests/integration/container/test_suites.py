"""The suites on the sample images: the good ones pass, every seeded defect is found by the check that names it."""

from __future__ import annotations

import pytest

from tests.images.defects import missed
from tests.integration.conftest import DEMO, Workspace

ALL = ["--suite", "baseline", "--suite", "hygiene", "--suite", "boot", "--suite", "container"]


@pytest.mark.parametrize("image", ["good", "v2", "scratch"])
def test_good_images_pass(work: Workspace, image: str) -> None:
    done = work.pytest("--image", DEMO + image, *ALL, "-q")
    assert done.status == 0, done.out
    if image != "scratch":
        assert sum(outcome == "passed" for outcome in work.outcomes().values()) >= 60


def test_every_seeded_defect_is_found_by_the_check_that_names_it(work: Workspace) -> None:
    done = work.pytest("--image", DEMO + "bad", *ALL, "-q")
    assert done.status == 1
    assert missed(work.path / ".certify/runs/latest") == []


def test_every_check_says_why(work: Workspace) -> None:
    work.write(
        "conftest.py",
        "def pytest_collection_modifyitems(items):\n"
        "    bad = [i.nodeid for i in items if not (i.function.__doc__ or '').strip() or '\\n' in i.function.__doc__.strip()]\n"
        "    assert not bad, bad\n",
    )
    done = work.pytest(
        "--image", DEMO + "good", *ALL, "-q", "--collect-only", "-p", "conftest", PYTHONPATH=str(work.path)
    )
    assert done.status == 0, done.text
