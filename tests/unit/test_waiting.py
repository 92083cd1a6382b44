"""Waiting ends with the first true answer, at the deadline, or with an error."""

from __future__ import annotations

import time
from itertools import count

import pytest

from certify.waiting import until


def test_the_first_true_answer_ends_it() -> None:
    answers = iter([0, "", "yes", "never asked"])
    assert until(lambda: next(answers), 10, 0.001) == "yes"


def test_it_is_asked_at_least_once_and_at_the_end() -> None:
    asked = count()
    assert until(lambda: next(asked) and False, 0, 10) is not True
    assert next(asked) == 1
    started = time.monotonic()
    assert until(lambda: time.monotonic() - started > 0.05, 0.06, 10) is True


def test_an_error_ends_it() -> None:
    with pytest.raises(ZeroDivisionError):
        until(lambda: 1 // 0, 10, 10)
