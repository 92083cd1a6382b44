"""``certify lock``: pin the suites that the channels ask for."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certify.cli.context import CommandLine, pass_settings
from certify.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from certify.config import Config
    from certify.gate.lock import Lock
    from certify.hooks import Plugins


@click.command()
@click.option(
    "--check", is_flag=True, help="write nothing; exit 1 when the suites and settings are not those of certify.lock"
)
@pass_settings
def lock(settings: CommandLine, check: bool) -> None:
    """Pin the suites that the channels ask for: their files, checks and settings. The gate compares every run with it.

    Keep certify.lock in version control: whoever reviews it sees what a green will mean from now on.

    \b
    Example: certify lock
    """
    from msgspec.structs import replace

    from certify.gate.lock import lock_path, read_lock, write_lock

    config, path = settings.load(), lock_path(settings.config_path)
    if not path.with_name("certify.yaml").exists() and settings.config_path is None:
        raise UsageError(
            "no certify.yaml here, so there is nothing to pin", "cd to the project, or write one: certify init"
        )
    made = lock_of(settings.plugins, config, path.parent)
    for name, suite in made.suites.items():
        click.echo(f"  {name} {suite.version}: {len(suite.checks)} checks, {suite.digest[:19]}")
    if made.plugins or made.code:
        click.echo(f"  may take part: {', '.join([*made.plugins, *(part.name for part in made.code)])}")
    if check:
        kept = read_lock(path)
        same = kept is not None and replace(kept, plugins=()) == replace(made, plugins=()) and not _unknown(kept, made)
        for name in sorted(set(kept.plugins) - set(made.plugins)) if kept else ():
            click.echo(f"  it lets the plugin {name} take part, which is not installed here")
        click.echo(f"{path} {'is up to date' if same else _difference(kept, made)}")
        sys.exit(0 if same else 1)
    click.echo(f"{'written ' if write_lock(path, made) else 'kept    '} {path}")


def _unknown(kept: Lock, made: Lock) -> list[str]:
    """Plugins that are installed here and that a lock does not let take part: a run here would be refused."""
    return sorted(set(made.plugins) - set(kept.plugins))


def _difference(kept: Lock | None, made: Lock) -> str:
    """What a lock that is not up to date differs in, and what to do."""
    if kept is None:
        return "is not there; write it: certify lock"
    names = {*kept.suites, *made.suites}
    differ = [f"suite {name}" for name in sorted(names) if kept.suites.get(name) != made.suites.get(name)]
    differ += [f"settings of {name}" for name in made.platforms if kept.platforms.get(name) != made.platforms[name]]
    differ += ["allow"] if kept.code != made.code else []
    differ += [f"the plugin {name}, which is installed here" for name in _unknown(kept, made)]
    return f"differs from what is here in: {', '.join(differ)}; review it, then: certify lock"


def lock_of(plugins: Plugins, config: Config, base: Path) -> Lock:
    """The lock of a project: of every suite that its channels or ``suites:`` name. Raises ConfigError, UsageError."""
    from importlib.metadata import entry_points

    from certify.gate.lock import Extras, allowed_code, make_lock

    by_name = {Path(name).name: name for name in config.suites}
    asked = [name for channel in config.channels.values() for name in channel.requires.suites]
    names = dict.fromkeys([*config.suites, *(by_name.get(name, name) for name in asked)])
    planned = plugins.plan_suites(config, list(names), base)
    points = [*entry_points(group="pytest11"), *entry_points(group="certify")]
    installed = tuple(point.dist.name for point in points if point.dist is not None)
    extras = Extras(installed, allowed_code(config.allow, base))
    made = make_lock(config, [plan for plan, _ in planned], {plan.suite: values for plan, values in planned}, extras)
    known = {check.name for suite in made.suites.values() for check in suite.checks}
    known |= {name.partition("[")[0] for name in known}
    for channel, wanted in ((n, c) for n, settings in config.channels.items() for c in settings.requires.checks):
        if wanted not in known:
            near = get_close_matches(wanted, known, 1)
            hint = f"did you mean {near[0]}?" if near else "see certify.lock for their names"
            raise ConfigError(f"certify.yaml: channels.{channel}.requires.checks: no suite has {wanted}", hint)
    return made


COMMANDS = (lock,)
