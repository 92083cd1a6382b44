"""Compiled files beside a project's sources, and beside suites' wherever they lie, are never taken."""

from __future__ import annotations

import importlib
import importlib.util
import marshal
import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_certify import compiled


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose owner is trusted, on the path of modules."""
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.setattr(compiled, "trusted_places", lambda: (place,))
    monkeypatch.setattr(compiled, "_packages_of_suites", lambda: frozenset({"a_suite"}))
    monkeypatch.setattr(sys, "pycache_prefix", None)
    before = set(sys.modules)
    yield place
    for name in set(sys.modules) - before:
        del sys.modules[name]


def disagree(source: Path) -> None:
    """A module that says ``source``, with a compiled file beside it that says ``beside`` and bears its time and size."""
    source.parent.mkdir(exist_ok=True)
    source.write_text("SAYS = 'source'\n")
    stat = source.stat()
    target = Path(importlib.util.cache_from_source(os.fspath(source)))
    target.parent.mkdir()
    head = importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, int(stat.st_mtime), stat.st_size)
    target.write_bytes(head + marshal.dumps(compile("SAYS = 'beside'\n", os.fspath(source), "exec")))


@pytest.mark.parametrize(
    ("where", "name", "says"),
    [("site", "a_client", "beside"), ("site", "a_suite", "source"), ("project", "a_helper", "source")],
)
def test_only_trusted_modules_keep_what_lies_beside_them(
    where: str, name: str, says: str, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disagree(trusted.parent / where / f"{name}.py")
    monkeypatch.syspath_prepend(trusted.parent / where)
    with compiled.compiled_apart():
        found = importlib.import_module(name).SAYS
        assert found == says


def test_a_link_into_a_project_is_no_trusted_place(trusted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disagree(trusted.parent / "project" / "a_linked.py")
    (trusted / "a_package").symlink_to(trusted.parent / "project")
    monkeypatch.syspath_prepend(trusted / "a_package")
    with compiled.compiled_apart():
        assert importlib.import_module("a_linked").SAYS == "source"


def test_afterwards_modules_are_found_as_before(trusted: Path) -> None:
    hooks = list(sys.path_hooks)
    with compiled.compiled_apart():
        place = Path(str(sys.pycache_prefix))
        assert place.is_dir()
    assert sys.path_hooks == hooks
    assert sys.pycache_prefix is None
    assert not place.exists()
