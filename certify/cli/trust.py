"""``certify gate``, ``promote``, ``verify`` and ``channels``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from certify.cli.context import (
    CommandLine,
    as_json,
    confirm_root,
    mark,
    open_image,
    pass_settings,
    print_json,
    table,
)
from certify.errors import TrustError, UsageError
from certify.printable import printable


@click.command()
@click.argument("reference", metavar="REF")
@click.option("--channel", required=True, help="channel whose gate is asked")
@click.option("--dry-run", is_flag=True, help="accepted for scripts: the gate never changes anything")
@click.option(
    "--at", metavar="TIME", allow_from_autoenv=False, help="decide as of this time, e.g. 2026-12-01T00:00:00Z"
)
@as_json
@pass_settings
def gate(settings: CommandLine, reference: str, channel: str, dry_run: bool, at: str | None, as_json: bool) -> None:
    """May this image stand on a channel? Every rule with its evidence and what would change it. Exit 0 yes, 1 no.

    \b
    Example: certify gate docker-daemon:app:1.2 --channel production
    """
    del dry_run
    from certify.trust.promote import judge

    judged = judge(
        open_image(reference).candidate,
        settings.policy(channel),
        settings.load(),
        now=_moment(at),
        confirm=confirm_root,
    )
    decision = judged.decision
    if as_json:
        print_json({**decision.to_json(), "unusable": list(judged.unusable)})
    else:
        click.echo(f"{decision.channel} {'allows' if decision.allow else 'refuses'} {decision.digest}")
        for rule in decision.rules:
            click.echo(f"{mark(rule.status == 'pass')} {printable(f'{rule.id}: {rule.message}')}")
            if rule.status != "pass":
                click.echo(printable(f"     → {rule.solution}"))
        for line in judged.unusable:
            click.echo(printable(f"     not counted: {line}"))
    sys.exit(0 if decision.allow else 1)


@click.command()
@click.argument("reference", metavar="REF")
@click.option("--to", "channel", required=True, metavar="CHANNEL", help="channel to put it on")
@as_json
@pass_settings
def promote(settings: CommandLine, reference: str, channel: str, as_json: bool) -> None:
    """Ask the gate, and if it allows, put the image on the channel. Exit 1 when it refuses.

    \b
    Example: certify promote docker-daemon:app:1.2 --to staging
    """
    from certify.trust.promote import promote as put

    told: list[str] = []

    def waiting(what: str) -> None:
        if not told:
            click.echo(what, err=True)
            told.append(what)

    pointer = put(
        open_image(reference).candidate,
        settings.policy(channel),
        settings.load(),
        waiting=waiting,
        confirm=confirm_root,
    )
    if as_json:
        print_json(pointer.to_json())
    else:
        click.echo(f"{pointer.path} → {pointer.digest} (serial {pointer.serial}, valid until {pointer.valid_until})")


@click.command()
@click.argument("reference", metavar="REF")
@click.option("--channel", default=None, help="ask one channel (default: every configured one, any will do)")
@as_json
@pass_settings
def verify(settings: CommandLine, reference: str, channel: str | None, as_json: bool) -> None:
    """Would a deployer accept this image? Exit 0 yes, 1 no.

    \b
    Example: certify verify docker-daemon:app:1.2 --channel production
    """
    from certify.trust.verify import Verifier

    config = settings.load()
    candidate = open_image(reference).candidate
    if channel is not None and channel not in config.channels:
        raise UsageError(f"no channel {channel!r} in certify.yaml", f"channels: {', '.join(config.channels)}")
    answers: dict[str, str] = {}
    for name in [channel] if channel else config.channels:
        try:
            verified = Verifier(config, confirm=confirm_root).candidate(candidate, name)
            answers[name] = ""
            pointer, count = verified.pointer, len(verified.certificates)
            told = f"serial {pointer.serial}, {count} certificates, until {pointer.valid_until}"
            _unless(as_json, f"{mark(True)} {name}: {candidate.digest} ({told})")
        except TrustError as error:
            answers[name] = error.message
            _unless(as_json, f"{mark(False)} {name}: {error.message}\n     → {error.hint}")
    accepted = [name for name, reason in answers.items() if not reason]
    if as_json:
        print_json({"digest": candidate.digest, "acceptedBy": accepted, "reasons": answers})
    sys.exit(0 if accepted else 1)


@click.command()
@click.option("--refresh", is_flag=True, help="sign snapshot and timestamp anew, so that they do not expire")
@as_json
@pass_settings
def channels(settings: CommandLine, refresh: bool, as_json: bool) -> None:
    """What stands where, since when, until when.

    \b
    Example: certify channels
    """
    from certify.trust.channels import ChannelRepository

    repository = ChannelRepository(settings.load().trust, confirm_root)
    if refresh:
        with repository.locked():
            repository.refresh()
    published = repository.read()
    pointers, expires = sorted(published.pointers(), key=lambda p: p.path), published.timestamp.expires
    if as_json:
        print_json(
            {"channels": [p.to_json() for p in pointers], "metadataExpires": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}
        )
        return
    rows = [("CHANNEL", "PRODUCT", "ARCH", "SERIAL", "DIGEST", "SINCE", "UNTIL")]
    rows += [
        (p.channel, p.product, p.arch, str(p.serial), p.digest[:19], p.not_before, p.valid_until) for p in pointers
    ]
    table(rows) if pointers else click.echo(
        "nothing stands on any channel; promote an image: certify promote REF --to CHANNEL"
    )
    left = expires - datetime.now(UTC)
    if left.days < 3:
        told = "has expired" if left.total_seconds() < 0 else f"expires in {left.days} d {left.seconds // 3600} h"
        click.secho(
            f"the channel metadata {told}, and with it every channel: certify channels --refresh", fg="red", err=True
        )


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--at {text}: no time", "write e.g. 2026-12-01T00:00:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _unless(quiet: bool, text: str) -> None:
    if not quiet:
        click.echo(text)


COMMANDS = (gate, promote, verify, channels)
