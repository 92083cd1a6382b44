"""The ``certify`` command: groups the commands, and turns every error into one line what and one line what to do."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import click

import certify
from certify.cli import convert, evidence, fleet, lab, lock, new, project, trust
from certify.cli.context import CommandLine
from certify.errors import CertifyError
from certify.printable import printable

_EPILOG = """\b
Exit codes: 0 done or yes · 1 no (a gate, a verification, a rollout) ·
            2 usage or failure · 6 no verdict (an engine or host does not answer)
\b
Shell completion: eval "$(_CERTIFY_COMPLETE=bash_source certify)"   (or zsh_source, fish_source)
\b
Boot and check an image:  pytest --image docker-daemon:app:1.2 --suite baseline"""


def _versions(context: click.Context, _: click.Parameter, asked: bool) -> None:
    """What a bug report needs to say."""
    if not asked or context.resilient_parsing:
        return
    import platform

    click.echo(f"certify {certify.__version__}, Python {platform.python_version()}, {platform.platform()}")
    from certify.hooks import Plugins

    for name, version in Plugins().versions():
        click.echo(f"{name} {version}")
    context.exit()


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "CERTIFY"})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_versions, help="show versions and exit"
)
@click.option(
    "--config", type=click.Path(path_type=Path), help="certify.yaml to use (default: ./certify.yaml if there)"
)
@click.option("--debug", is_flag=True, help="show tracebacks")
@click.option("-v", "--verbose", is_flag=True, help="log every call to engines, hypervisors, BMCs and registries")
@click.pass_context
def cli(context: click.Context, config: Path | None, debug: bool, verbose: bool) -> None:
    """Is this image good, on everything we run it on, and is what runs exactly what we tested?"""
    if os.environ.get("NO_COLOR"):
        context.color = False
    level = "debug" if verbose else os.environ.get("CERTIFY_LOG", "")
    if level:
        from certify.logs import show

        show(level)
    context.obj = CommandLine(config, debug)


for command in (
    *project.COMMANDS,
    *lock.COMMANDS,
    *evidence.COMMANDS,
    *convert.COMMANDS,
    *trust.COMMANDS,
    *fleet.COMMANDS,
    *lab.COMMANDS,
    *new.COMMANDS,
):
    cli.add_command(command)


def main() -> None:
    """Entry point of the ``certify`` program."""
    debug = "--debug" in sys.argv[1:] or bool(os.environ.get("CERTIFY_DEBUG"))
    try:
        cli(standalone_mode=True)
    except CertifyError as error:
        _fail(str(error), error.exit_code, debug)
    except OSError as error:
        _fail(
            f"{error.filename or 'system'}: {error.strerror or error}\n  make it readable and writable, or name another",
            2,
            debug,
        )
    except Exception as error:  # noqa: BLE001 - the last resort: a person gets a line, not a stack
        _fail(f"a defect in certify: {error!r}\n  please report it with what --debug prints", 2, debug)


def _fail(told: str, status: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    click.echo(f"certify: {printable(told)}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
