"""``certify init``, ``doctor``, ``gc`` and ``schema``: the project and the machine."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from certify.cli.context import CommandLine, as_json, pass_settings, print_json

_TEMPLATE = """\
# certify.yaml - what is certified here, where, and what each channel asks for. Every setting: certify schema
version: 1
product: {product}

# Run when `pytest --image REF` names no --suite: installed suites by name, your own by path.
suites: [baseline, hygiene, boot, container]

platforms:
  container:
    driver: docker            # which engine: DOCKER_HOST or the current docker context
    # mode: auto              # init, service or idle, detected from the image
    # memory: 1GiB            # per node
    # network: internal       # none, internal (no way out) or bridge
    # boot_timeout: 90s
  vm:
    driver: libvirt
    # uri: embed              # no daemon; or qemu:///system, qemu+ssh://user@host/system
    # memory: 1GiB
    # firmware: [auto]        # bios, uefi, uefi-secure; the vm suite boots every one that is named
    # kernel: ./vmlinuz       # for images that ship no kernel, with initrd:

# Per suite: allow-lists and thresholds (see docs/suites.md).
settings: {{}}

# Code and ini files from outside the suites that may take part in a run; their bytes are pinned by `certify lock`.
# allow: [conftest.py, pyproject.toml]

# What must have passed before an image may stand on a channel. After a change here or in a suite: certify lock
channels:
  staging:
    requires: {{suites: [baseline, hygiene], platforms: [container]}}
    valid_for: 30d            # how long a promotion holds
    max_age: 7d               # how old the oldest certificate that counts may be
    # max_failed_runs: 0      # how many failures of one digest may stay unexplained
  production:
    after: staging
    requires: {{suites: [baseline, hygiene, boot, container], platforms: [container]}}
    valid_for: 14d
"""


@click.command()
@click.option("--product", default=None, help="name of what is built here (default: the folder's)")
@pass_settings
def init(settings: CommandLine, product: str | None) -> None:
    """Write certify.yaml, development keys and an empty channel repository. Nothing that exists is changed.

    \b
    Example: certify init --product base-debian
    """
    import re

    from certify.cli.lock import lock_of
    from certify.files import write_whole
    from certify.gate.lock import lock_path, write_lock
    from certify.trust.channels import ChannelRepository
    from certify.trust.keys import KeyStore

    path = settings.config_path or Path("certify.yaml")
    if path.exists():
        click.echo(f"kept     {path}")
    else:
        name = re.sub(r"[^a-z0-9]+", "-", (product or Path.cwd().name).lower()).strip("-")[:64] or "default"
        write_whole(path, _TEMPLATE.format(product=name).encode(), sync=True)
        click.echo(f"written  {path}")
    config = settings.plugins.config(path)
    keys = KeyStore(Path(config.trust.keys))
    made = keys.create()
    if made:
        click.echo(f"written  {keys.path}: development keys for {', '.join(made)}")
        click.secho(
            "         These are DEVELOPMENT keys, unencrypted on this disk. For production keep root and targets",
            bold=True,
        )
        click.secho("         offline and put the others into a KMS or token: docs/gate-a-release.md", bold=True)
    else:
        click.echo(f"kept     {keys.path}")
    created = ChannelRepository(config.trust).create()
    click.echo(f"{'written ' if created else 'kept    '} {config.trust.repository}: the channel repository")
    state = Path(config.trust.keys).resolve()
    if Path.cwd() in state.parent.parents:  # all of our folder, never one that holds other people's work
        state = state.parent
    ignore = state / ".gitignore"
    if not ignore.exists() and state != Path.cwd():
        ignore.write_text("# keys, evidence and state of this machine: not for version control\n*\n")
        click.echo(f"written  {ignore}")
    lock = lock_path(path)
    if lock.exists():
        click.echo(f"kept     {lock}")
    else:
        write_lock(lock, lock_of(settings.plugins, config, path.parent))
        click.echo(f"written  {lock}: what the suites are; keep it in version control")
    click.echo("next     certify doctor")


@click.command()
@click.option(
    "--metal",
    type=click.Path(path_type=Path),
    metavar="NODES",
    help="ask the BMC of every node of this inventory instead",
)
@as_json
@pass_settings
def doctor(settings: CommandLine, metal: Path | None, as_json: bool) -> None:
    """Say what this machine can boot, what not, and the command that fixes it. Exit 1 if something configured cannot work.

    \b
    Example: certify doctor
             certify doctor --metal nodes.yaml
    """
    from dataclasses import asdict

    config, plugins = settings.load(), settings.plugins
    findings = plugins.doctor(config) if metal is None else plugins.probe_nodes(metal)
    bad = any(finding.status == "problem" for finding in findings)
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings], "ok": not bad})
    else:
        colors = {"ok": "green", "warning": "yellow", "problem": "red"}
        for finding in findings:
            status = click.style(f"{finding.status:<8}", fg=colors[finding.status])
            click.echo(f"{status} {finding.subject}: {finding.detail}")
            if finding.remedy:
                click.echo(f"         → {finding.remedy}")
    sys.exit(1 if bad else 0)


@click.command()
@click.option("--dry-run", is_flag=True, help="only say what would be removed")
@click.option("--kept", is_flag=True, help="also nodes that --keep-node left running")
@as_json
@pass_settings
def gc(settings: CommandLine, dry_run: bool, kept: bool, as_json: bool) -> None:
    """Remove what killed runs left behind: containers, virtual machines, networks, volumes, temporary files.

    \b
    Example: certify gc --dry-run
    """
    from certify.images.store import Store
    from certify.nodes.kept import KeptNodes
    from certify.nodes.owner import is_alive

    config = settings.load()
    nodes = KeptNodes(Store(Path(config.images.store)))
    spared = frozenset() if kept else nodes.owners()
    removed = settings.plugins.gc(config, lambda owner: owner in spared or is_alive(owner), dry_run)
    if kept and not dry_run:
        nodes.forget()
    if as_json:
        print_json({"removed": removed, "dryRun": dry_run})
        return
    for line in removed:
        click.echo(f"{'would remove' if dry_run else 'removed'} {line}")
    if not removed:
        click.echo("nothing was left behind")


@click.command()
@click.argument("which", type=click.Choice(["certify.yaml", "fleet.yaml"]), default="certify.yaml")
@pass_settings
def schema(settings: CommandLine, which: str) -> None:
    """Print the JSON Schema of certify.yaml or fleet.yaml.

    \b
    Example: certify schema > certify.schema.json
    """
    from certify.config import config_model, fleet_model
    from certify.models import schema as schema_of

    plugins = settings.plugins
    sections = plugins.platform_settings()
    print_json(schema_of(config_model(sections) if which == "certify.yaml" else fleet_model(plugins.fleet_settings())))


COMMANDS = (init, doctor, gc, schema)
