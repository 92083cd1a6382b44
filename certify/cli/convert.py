"""``certify convert``: the same disk for another cloud, and a certificate that says so."""

from __future__ import annotations

from pathlib import Path

import click

from certify.cli.context import CommandLine, as_json, open_image, pass_settings, print_json
from certify.errors import UsageError


@click.command()
@click.argument("reference", metavar="REF")
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--to", "form", required=True, help="raw (Amazon), vhd (Azure, fixed), vmdk (VMware) or qcow2")
@as_json
@pass_settings
def convert(settings: CommandLine, reference: str, target: Path, form: str, as_json: bool) -> None:
    """Write a disk image in another format, compare both, and sign a certificate that names both digests.

    The certificate lies beside FILE, as FILE.dsse.json.

    \b
    Example: certify convert base.qcow2 base.vhd --to vhd
    """
    from certify.evidence.conversion import conversion_statement
    from certify.files import write_whole
    from certify.trust.dsse import sign
    from certify.trust.keys import KeyStore

    config = settings.load()
    converters = settings.plugins.converters()
    known = [name for converter in converters for name in converter.formats]
    chosen = next((converter for converter in converters if form in converter.formats), None)
    if chosen is None:
        raise UsageError(f"--to {form}: no installed plugin writes that", f"known: {', '.join(known) or 'none'}")
    signer = KeyStore(Path(config.trust.keys)).signer("runner")
    source = open_image(reference)
    digest = chosen.convert(source, form, target)
    envelope = sign(conversion_statement(source.candidate, digest, form, target.name), signer)
    certificate = target.with_name(f"{target.name}.dsse.json")
    write_whole(certificate, envelope)
    if as_json:
        told = {
            "file": str(target),
            "digest": digest,
            "origin": source.candidate.digest,
            "certificate": str(certificate),
        }
        print_json(told)
        return
    click.echo(f"written {target} ({form}) = {digest}")
    click.echo(f"from    {source.candidate.reference} = {source.candidate.digest}; every byte compared")
    click.echo(f"signed  {certificate}")


COMMANDS = (convert,)
