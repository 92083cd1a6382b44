"""The ``certify`` command: groups the commands, and turns every error into one line what and one line what to do."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

import click

import certify
from certify.cli import evidence, fleet, project, trust
from certify.cli.context import Settings
from certify.errors import CertifyError

_EPILOG = """\b
Exit codes: 0 done or yes · 1 no (a gate, a verification, a rollout) ·
            2 usage or failure · 6 no verdict (an engine or host does not answer)
\b
Shell completion: eval "$(_CERTIFY_COMPLETE=bash_source certify)"   (or zsh_source, fish_source)
\b
Boot and check an image:  pytest --image docker-daemon:app:1.2 --suite baseline"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "CERTIFY"})
@click.version_option(certify.__version__, prog_name="certify")
@click.option(
    "--config", type=click.Path(path_type=Path), help="certify.yaml to use (default: ./certify.yaml if there)"
)
@click.option("--debug", is_flag=True, help="show tracebacks")
@click.pass_context
def cli(context: click.Context, config: Path | None, debug: bool) -> None:
    """Is this image good, on everything we run it on, and is what runs exactly what we tested?"""
    if os.environ.get("NO_COLOR"):
        context.color = False
    context.obj = Settings(config, debug)


for command in (*project.COMMANDS, *evidence.COMMANDS, *trust.COMMANDS, *fleet.COMMANDS):
    cli.add_command(command)


def main() -> None:
    """Entry point of the ``certify`` program."""
    debug = "--debug" in sys.argv[1:] or bool(os.environ.get("CERTIFY_DEBUG"))
    try:
        cli(standalone_mode=True)
    except CertifyError as error:
        if debug:
            traceback.print_exc()
        click.echo(f"certify: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
