"""``certify inspect`` and ``bless``: images, and the evidence of runs."""

from __future__ import annotations

from pathlib import Path

import click

from certify.cli.context import Settings, as_json, open_image, pass_settings, print_json


@click.command()
@click.argument("reference", metavar="REF")
@as_json
def inspect(reference: str, as_json: bool) -> None:
    """Say what an image is: digest, kind, size, system, how it starts. Boots nothing, changes nothing.

    \b
    Example: certify inspect docker-daemon:app:1.2
    """
    candidate = open_image(reference).candidate
    if as_json:
        print_json(candidate.to_json())
        return
    config = candidate.config
    rows = {
        "reference": str(candidate.reference),
        "digest": candidate.digest,
        "config": candidate.config_digest,
        "index": candidate.index_digest,
        "kind": candidate.kind,
        "platform": f"{candidate.os}/{candidate.architecture}",
        "size": f"{candidate.size / 1e6:.1f} MB in {len(candidate.layers or candidate.diff_ids)} layers",
        "created": candidate.created,
        "runs": " ".join(config.command) or "nothing",
        "as user": config.user or "root",
        "ports": ", ".join(config.ports),
    }
    for name, value in rows.items():
        if value:
            click.echo(f"{name:<10} {_printable(value)}")


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@pass_settings
def bless(settings: Settings, run: Path) -> None:
    """Sign a finished, passing run's certificate. RUN is its id or its evidence directory.

    \b
    Example: certify bless .certify/runs/latest
    """
    from certify.evidence.bundle import Bundle
    from certify.trust.bless import bless as sign_run

    config = settings.load()
    directory = run if run.exists() else Path(config.evidence) / run
    for path in sign_run(Bundle(directory.resolve()), config, only_passing=True):
        click.echo(f"signed {path}")


def _printable(text: str) -> str:
    """Images are hostile: no control characters reach the terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


COMMANDS = (inspect, bless)
