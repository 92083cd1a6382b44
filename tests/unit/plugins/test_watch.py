"""Every file of code is told before its first line runs; what is installed is not."""

from __future__ import annotations

import importlib.util
import marshal
import py_compile
import runpy
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from certify.images.candidate import digest_of
from certify.trust.witness import Loaded
from pytest_certify.watch import Watch


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[Loaded]]:
    """What is told from now on."""
    found: list[Loaded] = []
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "apart"))
    before = set(sys.modules)
    watch = Watch(found.append)
    found.clear()  # what was there before belongs to whoever runs these tests
    yield found
    watch.end()
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(told: list[Loaded]) -> list[str]:
    return [Path(file.path).name for file in told]


def test_a_module_is_told_once_and_before_it_runs(told: list[Loaded], tmp_path: Path) -> None:
    (tmp_path / "mod_a.py").write_text("import pathlib\npathlib.Path(__file__).write_text('# innocent')\n")
    before = (tmp_path / "mod_a.py").read_bytes()
    importlib.import_module("mod_a")
    del sys.modules["mod_a"]
    importlib.import_module("mod_a")
    [file] = told
    assert file.path == str(tmp_path / "mod_a.py")
    assert (tmp_path / "mod_a.py").read_bytes() != before
    assert file.digest == digest_of(before)


def test_code_that_is_no_module_is_told(told: list[Loaded], tmp_path: Path) -> None:
    (tmp_path / "script.txt").write_text("x = 1\n")
    runpy.run_path(str(tmp_path / "script.txt"))
    assert names(told) == ["script.txt"]


def test_a_compiled_file_is_told_whatever_name_its_code_bears(told: list[Loaded], tmp_path: Path) -> None:
    code = compile("y = 1\n", Path(importlib.util.__file__).as_posix(), "exec")
    (tmp_path / "mod_c.pyc").write_bytes(
        importlib.util.MAGIC_NUMBER + struct.pack("<III", 0, 0, 0) + marshal.dumps(code)
    )
    importlib.import_module("mod_c")
    assert names(told) == ["mod_c.pyc"]


def test_a_compiled_file_beside_its_source_is_told(
    told: list[Loaded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "pycache_prefix", None)
    (tmp_path / "mod_d.py").write_text("z = 1\n")
    py_compile.compile(str(tmp_path / "mod_d.py"))
    importlib.invalidate_caches()
    importlib.import_module("mod_d")
    assert set(names(told)) == {"mod_d.py", Path(importlib.util.cache_from_source("mod_d.py")).name}


def test_code_out_of_an_archive_is_told(told: list[Loaded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("mod_z.py", "w = 1\n")
    monkeypatch.syspath_prepend(tmp_path / "more.zip")
    importlib.import_module("mod_z")
    assert str(tmp_path / "more.zip" / "mod_z.py") in [file.path for file in told]


def test_what_is_installed_and_what_is_made_of_text_is_not_told(told: list[Loaded]) -> None:
    import dataclasses

    sys.modules.pop("colorsys", None)
    importlib.import_module("colorsys")
    dataclasses.make_dataclass("X", ["a"])
    exec("v = 1", {})
    assert told == []


def test_what_was_loaded_before_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mod_e.py").write_text("u = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("mod_e")
    found: list[Loaded] = []
    try:
        Watch(found.append).end()
    finally:
        del sys.modules[module.__name__]
    assert str(tmp_path / "mod_e.py") in [file.path for file in found]


def test_nothing_is_told_after_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Loaded] = []
    Watch(found.append).end()
    count = len(found)
    (tmp_path / "late.txt").write_text("t = 1\n")
    runpy.run_path(str(tmp_path / "late.txt"))
    assert len(found) == count
