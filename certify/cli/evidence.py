"""``certify inspect`` and ``bless``: images, and the evidence of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certify.cli.context import CommandLine, as_json, open_image, pass_settings, print_json
from certify.printable import printable

if TYPE_CHECKING:
    from certify.images.candidate import Candidate


@click.command()
@click.argument("reference", metavar="REF")
@as_json
def inspect(reference: str, as_json: bool) -> None:
    """Say what an image is: digest, kind, size, system, how it starts. Boots nothing, changes nothing.

    \b
    Example: certify inspect docker-daemon:app:1.2
    """
    source = open_image(reference)
    candidate, more = source.candidate, source.describe()
    if as_json:
        print_json({**candidate.to_json(), **({"disk": more} if more else {})})
        return
    if more:
        _print_rows(_disk_rows(candidate, more))
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
    _print_rows(list(rows.items()))


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@pass_settings
def bless(settings: CommandLine, run: Path) -> None:
    """Sign a finished, passing run's certificate. RUN is its id or its evidence directory.

    \b
    Example: certify bless .certify/runs/latest
    """
    from certify.evidence.bundle import Bundle
    from certify.trust.bless import bless as sign_run

    config = settings.load()
    directory = run if run.exists() else Path(config.evidence) / run
    for path in sign_run(Bundle(directory.resolve()), config):
        click.echo(f"signed {path}")


def _disk_rows(candidate: Candidate, disk: dict[str, Any]) -> list[tuple[str, str]]:
    packed = f", packed with {disk['packing']}" if disk["packing"] else ""
    sizes = f"{_mb(disk['virtualSize'])} virtual, {_mb(disk['realSize'])} stored, {_mb(candidate.size)} given"
    partitions = [
        (f"  {p['number']}", f"{_mb(p['size']):>11}  {p['filesystem'] or '-':<8}  {p['type']} {p['name']}".rstrip())
        for p in disk["partitions"]
    ]
    return [
        ("reference", str(candidate.reference)),
        ("digest", candidate.digest),
        ("kind", f"disk ({disk['format']}{packed})"),
        ("size", sizes),
        ("table", disk["partitionTable"]),
        *partitions,
        ("firmware", ", ".join(disk["firmware"]) or "none: it does not look bootable"),
        ("system", disk["osRelease"].get("PRETTY_NAME", "unknown")),
    ]


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _print_rows(rows: list[tuple[str, str]]) -> None:
    for name, value in rows:
        if value:
            click.echo(
                f"{name:<10} {printable(value.replace(chr(10), '?'))}"
            )  # one line: another would look like a fact


@click.command()
@click.argument("certificate", metavar="CERTIFICATE")
@click.option("--reason", required=True, help="what failed, and why it was not the image")
@pass_settings
def explain(settings: CommandLine, certificate: str, reason: str) -> None:
    """Sign why a failed certificate does not speak against its digest, so that the gate counts it no more.

    CERTIFICATE is its digest (certify gate --json names it). Signed with the approver's key.

    \b
    Example: certify explain sha256:5f2a… --reason "the registry was down while the suite ran"
    """
    from certify.trust.explain import explain as sign_explanation

    click.echo(f"signed {sign_explanation(certificate, reason, settings.load())}")


COMMANDS = (inspect, bless, explain)
