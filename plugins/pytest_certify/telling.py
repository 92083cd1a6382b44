"""Who is told what a process of a run loads, from before it loads any file of the project."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial

import pytest

from certify.errors import CertifyError
from certify.trust.notary import TookPart
from certify.trust.workers import ADDRESS, Telling
from pytest_certify.compiled import compiled_apart
from pytest_certify.notary_process import NotaryProcess
from pytest_certify.took_part import parts
from pytest_certify.watch import Watch


def begin_telling(config: pytest.Config) -> NotaryProcess | None:
    """From now on every file of code is compiled from its source, and told of before it runs: by a worker to its run's
    notary, else to the one that is started here. None for a worker, and where checks are only listed. Raises UsageError."""
    options = config.known_args_namespace
    apart = ExitStack()
    apart.enter_context(compiled_apart())
    config.add_cleanup(apart.close)
    if "PYTEST_XDIST_WORKER" in os.environ:
        config.add_cleanup(Watch(_line_of_a_worker().tell).end)
        return None
    if options.collectonly:
        return None
    notary = NotaryProcess(workers=bool(getattr(options, "numprocesses", 0) or getattr(options, "tx", 0)))
    config.add_cleanup(notary.close)
    os.environ[ADDRESS] = notary.address
    config.add_cleanup(partial(_forget_variable, ADDRESS))
    try:
        notary.tell(TookPart(tuple(parts(config, options))))
        config.add_cleanup(Watch(notary.tell).end)
    except (CertifyError, OSError) as error:
        raise pytest.UsageError(f"what takes part in this run cannot be told: {error}") from None
    return notary


def _line_of_a_worker() -> Telling:
    """A worker's line to its run's notary. Raises UsageError for a process that only gives itself out as a worker."""
    try:
        return Telling(os.environ.get(ADDRESS, ""))
    except OSError:
        raise pytest.UsageError("PYTEST_XDIST_WORKER is set, but this is no worker of a run: unset it") from None


def _forget_variable(name: str) -> None:
    os.environ.pop(name, None)
