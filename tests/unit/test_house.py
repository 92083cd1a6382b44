"""The house rules, checked: layers, sizes, packaging, types, style."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ["images", "nodes", "evidence", "gate", "trust", "deploy", "ledger", "cli"]
EDGE = {"pytest", "docker", "libvirt", "sushy", "testinfra", "requests", "urllib3", "httpx", "allure", "_pytest"}
SOURCES = sorted(p for folder in ("certify", "plugins", "fixtures", "suites") for p in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def runtime_imports(path: Path) -> set[str]:
    """Imports outside ``if TYPE_CHECKING``."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.is_relative_to(ROOT / "certify")], ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_core_imports_no_edge_and_nothing_to_its_right(path: Path) -> None:
    found = imports(path)
    assert not {name.split(".")[0] for name in found} & EDGE
    assert not {name for name in found if name.startswith(("certify_", "pytest_certify"))}
    parts = path.relative_to(ROOT / "certify").parts
    if parts[0] in LAYERS:
        right = LAYERS[LAYERS.index(parts[0]) + 1 :]
        assert not {
            name for name in runtime_imports(path) if name.startswith(tuple(f"certify.{layer}" for layer in right))
        }


def name_of(path: Path) -> str:
    """A source's dotted module name."""
    base = ROOT if path.is_relative_to(ROOT / "certify") else path.parents[len(path.relative_to(ROOT).parts) - 2]
    return ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")


def all_imports() -> dict[str, set[str]]:
    """Every module of ours, and which of ours it imports, anywhere in it, for types too."""
    known = {name_of(path): path for path in SOURCES}
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        targets = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
                targets |= (names & known.keys()) | ({node.module or ""} if names - known.keys() else set())
            elif isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
        found[name] = (targets & known.keys()) - {name}
    return found


def test_no_two_modules_need_each_other() -> None:
    """Also not by way of others: the imports are put in order (Kahn), and what is left goes round in a circle."""
    left = all_imports()
    while free := {name for name, targets in left.items() if not targets & left.keys()}:
        left = {name: targets for name, targets in left.items() if name not in free}
    assert not left


def test_plugins_import_none_of_each_other() -> None:
    """What is in a disk is below them; the lab imports what it imitates, and pytest's edge the fixtures."""
    allowed = {
        ("certify_lab", "certify_metal"),
        ("certify_lab", "certify_libvirt"),
        ("pytest_certify", "certify_fixtures"),
    }
    plugins = {path.name for path in (ROOT / "plugins").iterdir() if path.is_dir()} | {"certify_fixtures"}
    pairs = {
        (name.partition(".")[0], target.partition(".")[0])
        for name, targets in all_imports().items()
        for target in targets
    }
    found = {(a, b) for a, b in pairs if a != b and a in plugins and b in plugins and b != "certify_disk"}
    assert found <= allowed


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert size(node) <= 60, node.name


def size(node: ast.FunctionDef) -> int:
    """Lines of a function, its docstring not counted."""
    docstring = ast.get_docstring(node, clean=False)
    return (node.end_lineno or node.lineno) - node.lineno + 1 - (len(docstring.splitlines()) if docstring else 0)


def test_most_functions_are_very_small() -> None:
    sizes = [size(n) for p in SOURCES for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.FunctionDef)]
    assert statistics.median(sizes) <= 8
    assert sum(s <= 25 for s in sizes) / len(sizes) >= 0.9


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_everything_public_says_what_it_is_for(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith(("_", "certify_", "pytest_")):
            assert ast.get_docstring(node), node.name


def test_the_top_level_is_what_the_customer_fixed() -> None:
    wanted = {"pyproject.toml", "certify", "suites", "fixtures", "plugins", "tests", "README.md"}
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    top = {name.split("/")[0] for name in listed}
    assert wanted <= top
    assert top - wanted <= {"docs", "Makefile", "LICENSE", "CHANGELOG.md", ".ci", ".gitignore"}


_SHIPPED = (".py", ".yaml", ".typed", ".template", "")  # without a suffix: the installer's programs


def test_the_wheel_holds_every_package(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    names = {name for name in zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist() if ".dist-info" not in name}
    roots = [(ROOT, "certify"), *((ROOT / r, "") for r in ("plugins", "fixtures", "suites"))]
    wanted = set()
    for root, only in roots:
        wanted |= {
            p.relative_to(root).as_posix() for p in (root / only).rglob("*") if p.is_file() and p.suffix in _SHIPPED
        }
    assert names == wanted


def test_an_edit_to_a_suite_is_found_where_it_is_installed() -> None:
    """Editable installation: the four source roots are on the path, under their own names only."""
    code = "import certify, pytest_certify, certify_docker, certify_fixtures, certify_suites; print(certify_suites.__file__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.stdout.strip() == str(ROOT / "suites" / "certify_suites" / "__init__.py"), done.stderr


def test_ruff_is_content() -> None:
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_mypy_is_content() -> None:
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_test_that_the_security_page_names_exists() -> None:
    """``file::test``; a name without a file is in the file named before it."""
    tests = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    file = ""
    named = re.findall(r"`(test_\w+\.py)?(?:::(\w+))?`", (ROOT / "docs/security.md").read_text())
    assert len(named) > 60
    for where, test in named:
        file = where or file
        assert not test or f"def {test}(" in tests[file], f"{file}::{test}"
