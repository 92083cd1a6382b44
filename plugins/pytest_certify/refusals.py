"""Command lines that certify refuses, before anything is collected: what they ask for could not be what was planned."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from pytest_certify.suites import FoundSuite

#: A worker of xdist as this process is: on this machine, by this interpreter.
_PLAIN_WORKER = re.compile(r"([0-9]+\*)?popen")
_LISTS = {
    "collectonly": "--collect-only",
    "showfixtures": "--fixtures",
    "show_fixtures_per_test": "--fixtures-per-test",
    "setupplan": "--setup-plan",
    "setuponly": "--setup-only",
}


def without_image(options: argparse.Namespace) -> None:
    """Raise UsageError for an option of certify's where no image is named: checks would run on this machine."""
    given = [f"--{name}" for name in ("suite", "sign", "promote", "platform") if getattr(options, name, None)]
    given += [
        f"--{name.replace('_', '-')}" for name in ("isolation", "keep_node", "strict_shell") if getattr(options, name)
    ]
    if given:
        raise pytest.UsageError(
            f"{given[0]} needs --image REF: without one the checks would run on this machine, destructive ones too"
        )


def of_an_image_run(options: argparse.Namespace) -> None:
    """Raise UsageError for what would leave parts of a suite out, run it elsewhere, or sign what was only listed."""
    if options.noconftest:
        raise pytest.UsageError("--noconftest would leave conftest files of a suite out: run without it")
    for spec in [*(getattr(options, "tx", None) or ()), *(getattr(options, "px", None) or ())]:
        if not _PLAIN_WORKER.fullmatch(spec):
            raise pytest.UsageError(f"--tx {spec}: workers run on this machine, as this process does: use -n N")
    listing = [name for option, name in _LISTS.items() if getattr(options, option, False)]
    if listing and (options.sign or options.promote):
        raise pytest.UsageError(f"{listing[0]} runs no check: there is nothing to sign; leave --sign and --promote out")


def cut_below_a_suite(confcutdir: Path, suites: Iterable[FoundSuite]) -> None:
    """Raise UsageError where pytest would leave a suite's own conftest files out, because it looks for them from below."""
    for suite in suites:
        if suite.path in confcutdir.resolve().parents:
            raise pytest.UsageError(
                f"conftest files of {suite.path} would be left out: run from there or above, without --confcutdir"
            )


def destructive_here(items: list[pytest.Item]) -> None:
    """Raise UsageError for checks that are marked destructive and ask for a host, where no image is named."""
    for item in items:
        if item.get_closest_marker("destructive") and "host" in getattr(item, "fixturenames", ()):
            raise pytest.UsageError(f"{item.nodeid} is destructive and would run on this machine: name an --image")
