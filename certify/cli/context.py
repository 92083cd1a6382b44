"""What every command shares: its settings, and how it prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certify.printable import printable

if TYPE_CHECKING:
    from certify.config import Config
    from certify.gate.lock import Lock
    from certify.gate.policy import Policy
    from certify.hooks import Plugins
    from certify.images.candidate import ImageSource

as_json = click.option("--json", "as_json", is_flag=True, help="print one JSON document")


@dataclass(frozen=True)
class CommandLine:
    """The options before the command."""

    config_path: Path | None
    debug: bool

    def load(self) -> Config:
        """certify.yaml, read once: a command judges by the same all the while. Raises ConfigError."""
        return self._config

    @cached_property
    def _config(self) -> Config:
        return self.plugins.config(self.config_path)

    @cached_property
    def plugins(self) -> Plugins:
        """What is installed."""
        from certify.hooks import Plugins

        return Plugins()

    def policy(self, channel: str) -> Policy:
        """What a channel asks for. Raises ConfigError, UsageError for a channel nobody has."""
        from certify.gate.policy import policy_of

        return policy_of(self.load(), channel, self.lock(), self.plugins.gate_rules())

    def lock(self) -> Lock | None:
        """certify.lock beside it; None when there is none. Raises ConfigError."""
        from certify.gate.lock import lock_path, read_lock

        return read_lock(lock_path(self.config_path))


def confirm_root(fingerprint: str) -> bool:
    """Ask whoever sits at the terminal whether this root is the right one; nobody there says no."""
    if not sys.stdin.isatty():
        return False
    click.echo(
        f"This channel repository was never used on this machine. Its root has the fingerprint\n  {fingerprint}",
        err=True,
    )
    return click.confirm("Is that what the repository's maker says?", default=False, err=True)


pass_settings = click.make_pass_decorator(CommandLine)


def open_image(reference: str) -> ImageSource:
    """Resolve a reference with every installed transport."""
    from certify.images.resolve import Resolver

    settings = click.get_current_context().find_object(CommandLine) or CommandLine(None, False)
    return Resolver(settings.plugins.transports(settings.load())).open(reference)


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=2, sort_keys=True))


def mark(good: bool) -> str:
    """A coloured yes or no, readable without colour."""
    return click.style("ok  ", fg="green") if good else click.style("FAIL", fg="red", bold=True)


def table(rows: Sequence[tuple[str, ...]]) -> None:
    """Columns as wide as they need to be."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        click.echo(printable("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()))
