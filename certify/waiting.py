"""Waiting for what tells nobody when it changes. Where there is an event, wait for the event."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(ask: Callable[[], T], seconds: float, every: float) -> T:
    """Ask at least once, then every ``every`` seconds: the first true answer, or the last one after ``seconds``.

    Raises what ``ask`` raises.
    """
    deadline = time.monotonic() + seconds
    while not (answer := ask()) and time.monotonic() < deadline:
        time.sleep(min(every, max(0.0, deadline - time.monotonic())))
    return answer
