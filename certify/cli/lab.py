"""``certify lab``: virtual metal nodes to try the metal platform on; ``certify netboot``: what nodes boot from the network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from certify.cli.context import as_json, print_json, table

if TYPE_CHECKING:
    from certify.nodes.lab import Lab, LabNode

_folder = click.option("--folder", type=click.Path(path_type=Path), help="where the lab lives (default: its own place)")


@click.group()
def lab() -> None:
    """Virtual metal nodes behind BMCs that speak Redfish or IPMI, for those with no hardware."""


@lab.command()
@click.option("--nodes", type=click.IntRange(1, 16), default=1, show_default=True, help="how many")
@click.option("--inventory", type=click.Path(path_type=Path), default=Path("nodes.yaml"), show_default=True)
@click.option(
    "--bmc", type=click.Choice(["redfish", "ipmi"]), default="redfish", show_default=True, help="what BMCs speak"
)
@_folder
def up(nodes: int, inventory: Path, bmc: str, folder: Path | None) -> None:
    """Start the lab and write its inventory; what runs already is left alone.

    \b
    Example: certify lab up --nodes 2
    """
    found = _lab(folder).up(nodes, inventory, lambda what: click.echo(f"lab: {what}", err=True), bmc=bmc)
    _tell(found)
    click.echo(f"written {inventory}; try: pytest --image base.qcow2 --platform metal --suite metal")


@lab.command()
@_folder
def down(folder: Path | None) -> None:
    """Stop the lab and remove its nodes and their disks."""
    gone = _lab(folder).down(lambda what: click.echo(f"lab: {what}", err=True))
    click.echo("the lab is down" if gone else "there was no lab")


@lab.command()
@_folder
@as_json
def status(folder: Path | None, as_json: bool) -> None:
    """The lab's nodes: address of the BMC, power."""
    found = _lab(folder).status()
    if as_json:
        print_json([{"name": n.name, "uuid": n.uuid, "bmc": n.bmc, "power": n.power} for n in found])
    elif found:
        _tell(found)
    else:
        click.echo("the lab is down; start it: certify lab up")


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--host", required=True, help="this host's address, as metal nodes reach it")
def netboot(folder: Path, host: str) -> None:
    """Write the programs that metal nodes without virtual media boot from the network, for your TFTP server's FOLDER.

    \b
    Example: certify netboot /srv/tftp --host 10.0.7.1
    """
    from certify.errors import UsageError
    from certify.hooks import Plugins

    written = Plugins().netboot(folder, host)
    if not written:
        raise UsageError("no installed plugin boots metal nodes", "pip install 'pytest-certify[metal]'")
    for path in written:
        click.echo(f"written {path}")


def _tell(nodes: list[LabNode]) -> None:
    table([("NODE", "POWER", "UUID", "BMC"), *((n.name, n.power, n.uuid, n.bmc) for n in nodes)])


def _lab(folder: Path | None) -> Lab:
    from certify.errors import UsageError
    from certify.hooks import Plugins

    labs = Plugins().labs(folder)
    if not labs:
        raise UsageError("no installed plugin has a lab", "pip install 'pytest-certify[lab]'")
    return labs[0]


COMMANDS = (lab, netboot)
