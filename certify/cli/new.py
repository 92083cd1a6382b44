"""``certify new``: a package to start from, for a suite or a plugin of one's own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certify.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

_SUFFIX = ".template"


@click.command()
@click.argument("what", type=click.Choice(["suite", "plugin"]))
@click.argument("name")
def new(what: str, name: str) -> None:
    """Write a working package into a folder called NAME: a suite of checks, or a plugin with a platform of its own.

    It has a test and a CI file; what it does is a start, to be replaced by what you need.

    \b
    Example: certify new plugin podman
    """
    from importlib import resources
    from string import Template

    if not re.fullmatch(r"[a-z][a-z0-9-]{0,40}", name):
        raise UsageError(f"{name!r} cannot name a package", "write lower case letters, digits and '-', e.g. our-rules")
    folder = Path(name)
    if folder.exists():
        raise UsageError(f"{folder} is there already", "nothing was written; choose another name")
    words = {"name": name, "module": name.replace("-", "_")}
    written = []
    for path, source in _files(resources.files("certify") / "templates" / what, Path()):
        place = Path(str(path).replace("MODULE", words["module"]).replace("PACKAGE", f"suite_{words['module']}"))
        target = folder / place.with_name(place.name.removesuffix(_SUFFIX))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(source.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
        written.append(target)
    for target in sorted(written):
        click.echo(f"written  {target}")
    click.echo(f"next: cd {folder}, pip install -e '.{'[test]' if what == 'plugin' else ''}', pytest")


def _files(folder: Traversable, path: Path) -> Iterator[tuple[Path, Traversable]]:
    for found in folder.iterdir():
        if found.is_dir():
            yield from _files(found, path / found.name)
        elif found.name.endswith(_SUFFIX):
            yield path / found.name, found


COMMANDS = (new,)
