"""What a host has left of inotify is counted, not guessed."""

from __future__ import annotations

import ctypes
import os

import pytest

from certify_docker import inotify


@pytest.mark.skipif(os.getuid() != 0, reason="only root sees root's processes")
def test_instances_are_counted() -> None:
    before = sum(1 for _ in inotify._instances())
    descriptors = [ctypes.CDLL(None).inotify_init() for _ in range(20)]
    try:
        found = sum(1 for _ in inotify._instances())
        assert found >= before + 15  # others come and go meanwhile
        assert inotify.is_short(found)
        assert not inotify.is_short(found + 100)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def test_a_kernel_that_says_nothing_is_not_short() -> None:
    assert not inotify.is_short(None)
