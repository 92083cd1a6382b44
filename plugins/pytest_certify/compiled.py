"""Compiled Python files, kept apart: a ``.pyc`` beside a source is accepted by its time and size alone, and so could hold other
code than the source that was digested."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from importlib.metadata import entry_points
from pathlib import Path
from types import CodeType

from certify.nodes.owner import this_process
from certify.processes import trusted_places

#: What the places' names begin with, for `certify gc`; then their owner's name.
PREFIX = "certify-pycache-"


@contextmanager
def compiled_apart() -> Iterator[None]:
    """Meanwhile, compiled files come from a place made for this process, which is gone afterwards. Only modules that lie in
    trusted places, and are no suites, keep the ones beside them: compiling all of an engine's client anew takes half a second."""
    before = sys.pycache_prefix
    place = Path(tempfile.mkdtemp(prefix=owned(PREFIX)))
    sys.pycache_prefix = str(place)
    hook = partial(_finder_of_trusted, trusted_places())
    sys.path_hooks.insert(0, hook)
    sys.path_importer_cache.clear()
    try:
        yield
    finally:
        sys.path_hooks.remove(hook)
        sys.path_importer_cache.clear()
        sys.pycache_prefix = before
        shutil.rmtree(place, ignore_errors=True)


class _Beside(SourceFileLoader):
    """Takes a module's compiled file from beside its source, as if nothing were kept apart; a suite's never."""

    def get_code(self, fullname: str) -> CodeType | None:
        """The module's code (:class:`importlib.abc.InspectLoader`)."""
        if fullname.partition(".")[0] in _packages_of_suites():
            return super().get_code(fullname)
        apart, sys.pycache_prefix = sys.pycache_prefix, None
        try:
            return super().get_code(fullname)
        finally:
            sys.pycache_prefix = apart


def _finder_of_trusted(places: Iterable[Path], path: str) -> FileFinder:
    """A path hook (PEP 302) for folders in trusted places. Raises ImportError for others."""
    folder = Path(path).resolve()
    if not any(folder.is_relative_to(place) for place in places):
        raise ImportError(path)
    return FileFinder(
        path,
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (_Beside, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )


@cache
def _packages_of_suites() -> frozenset[str]:
    return frozenset(point.value.partition(".")[0] for point in entry_points(group="certify.suites"))


def owned(prefix: str) -> str:
    """The beginning of a temporary folder's name that says whose it is."""
    return f"{prefix}{this_process().replace('/', '+')}-"


def owner_of(name: str, prefix: str) -> str:
    """The owner that :func:`owned` put into a folder's name."""
    return name.removeprefix(prefix).rpartition("-")[0].replace("+", "/")
