"""Every command in the README and the guides is run, in order, in a folder of its own; what they list is complete."""

from __future__ import annotations

import importlib
import re
import secrets
import tomllib
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from tests.images.builder import CACHE
from tests.integration.conftest import Workspace

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?://)([^)#]+)\)")


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Language, the rest of the info string and the text of every fenced block."""
    for language, info, text in _BLOCK.findall(page.read_text()):
        yield language, info.strip(), text


def commands(page: Path) -> list[str]:
    return [
        line[2:]
        for lang, _, text in blocks(page)
        if lang == "console"
        for line in text.splitlines()
        if line.startswith("$ ")
    ]


@pytest.fixture
def clear_fleets(engine: docker.DockerClient) -> Iterator[None]:
    yield
    for container in engine.containers.list(all=True, filters={"label": "dev.certify.fleet=web"}):
        container.remove(force=True, v=True)


def _boots_machines(page: Path) -> bool:
    return "base.qcow2" in page.read_text()


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, id=p.name, marks=[pytest.mark.slow] if _boots_machines(p) else []) for p in PAGES if commands(p)],
)
@pytest.mark.usefixtures("clear_fleets")
def test_the_commands_work(work: Workspace, own_lab: str, page: Path) -> None:
    if _boots_machines(page):
        (work.path / "base.qcow2").hardlink_to(CACHE / "disk-good.qcow2")
    for language, info, text in blocks(page):
        if info.startswith("file="):
            work.write(info.removeprefix("file="), text)
        if language != "console":
            continue
        for line in text.splitlines():
            command, _, comment = line.removeprefix("$ ").partition("  #")
            wanted = int(comment.split()[-1]) if "exit" in comment else 0
            done = work.run(*_words(command), CERTIFY_LAB_FOLDER=own_lab)
            assert done.status == wanted, f"{command}\n{done.text}"


@pytest.fixture
def own_lab(work: Workspace) -> Iterator[str]:
    """Where a guide's lab lives: not where somebody has one running. Gone afterwards, however the guide ends."""
    folder = f"/var/tmp/cd-{secrets.token_hex(3)}"
    yield folder
    if Path(folder).exists():
        work.certify("lab", "down", CERTIFY_LAB_FOLDER=folder)


def _words(command: str) -> list[str]:
    import shlex

    return shlex.split(command)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert [link for link in _LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [re.split(r"[<>=\[ ]", line)[0] for line in project["dependencies"]]
    text = (ROOT / "docs/dependencies.md").read_text()
    assert [name for name in named if name not in text] == []


@pytest.mark.parametrize("suite", ["baseline", "hygiene", "boot", "container"])
def test_every_setting_is_explained(suite: str) -> None:
    text = (ROOT / "docs/suites.md").read_text()
    assert [key for key in importlib.import_module(f"certify_suites.{suite}").DEFAULTS if f"`{key}`" not in text] == []


def test_every_command_is_in_a_guide() -> None:
    from certify.cli.main import cli

    text = "".join(page.read_text() for page in PAGES)
    assert [name for name in cli.commands if f"certify {name}" not in text and f"`{name}`" not in text] == []
