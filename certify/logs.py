"""Logging for those who ask for it: ``-v``, ``CERTIFY_LOG=debug``, or pytest's own ``log_cli_level``. Silent otherwise.

Loggers are named by module. Every call to an engine, hypervisor, BMC, registry or program is logged with its duration and how
it ended; never a body, a header or a password.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from certify.errors import UsageError

_OURS = ("certify", "pytest_certify")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}


def show(level: str) -> None:
    """From now on write what our loggers say to standard error. Raises UsageError for a level nobody knows."""
    if level.lower() not in _LEVELS:
        raise UsageError(f"CERTIFY_LOG={level}: no such level", f"known: {', '.join(_LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s.%(msecs)03d %(name)s: %(message)s", "%H:%M:%S"))
    handler.addFilter(lambda record: record.name.startswith(_OURS))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(_LEVELS[level.lower()])


@contextmanager
def timed(logger: logging.Logger, what: str) -> Iterator[None]:
    """Log what is done meanwhile, how long it took and the kind of error it ended with, if any."""
    started, ended = time.monotonic(), ""
    try:
        yield
    except BaseException as error:
        ended = f", {type(error).__name__}"
        raise
    finally:
        logger.debug("%s: %.3f s%s", what, time.monotonic() - started, ended)


def responses(logger: logging.Logger) -> Callable[..., None]:
    """A hook for the responses of requests' sessions: method, path, status, and seconds until the answer began."""

    def log(response: Any, *_: Any, **__: Any) -> None:
        request = response.request
        where = urlsplit(request.url)
        seconds = response.elapsed.total_seconds()
        host = where.netloc.rpartition("@")[2]  # without a user and his password
        logger.debug("%s %s%s: %s, %.3f s", request.method, host, where.path, response.status_code, seconds)

    return log
