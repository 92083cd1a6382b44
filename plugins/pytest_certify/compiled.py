"""Compiled Python files, kept apart: a ``.pyc`` beside a source is accepted by its time and size alone, and so could hold other
code than the source that was digested."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certify.nodes.owner import this_process

#: What the places' names begin with, for `certify gc`; then their owner's name.
PREFIX = "certify-pycache-"


@contextmanager
def compiled_apart() -> Iterator[None]:
    """Meanwhile, compiled files come from a place made for this process, which is gone afterwards."""
    before = sys.pycache_prefix
    place = Path(tempfile.mkdtemp(prefix=owned(PREFIX)))
    sys.pycache_prefix = str(place)
    try:
        yield
    finally:
        sys.pycache_prefix = before
        shutil.rmtree(place, ignore_errors=True)


def owned(prefix: str) -> str:
    """The beginning of a temporary folder's name that says whose it is."""
    return f"{prefix}{this_process().replace('/', '+')}-"


def owner_of(name: str, prefix: str) -> str:
    """The owner that :func:`owned` put into a folder's name."""
    return name.removeprefix(prefix).rpartition("-")[0].replace("+", "/")
