"""The reasons for which a suite's own code may skip a check, read from its source without running it.

``pytest.skip("…")`` inside a check counts for that check; inside a fixture for the checks that use it; inside any other
function for every check of the suite. A reason that is made at run time is a pattern where its fixed parts say enough,
and otherwise none: a check skipped for it then keeps the image from passing.
"""

from __future__ import annotations

import ast
import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_ENOUGH = 8  # letters that a pattern must have of its own


@dataclass
class Reasons:
    """Patterns by the function they stand in: checks (``file::Class::name``), fixtures by name, and anything else."""

    checks: dict[str, set[str]] = field(default_factory=dict)
    fixtures: dict[str, set[str]] = field(default_factory=dict)
    helpers: set[str] = field(default_factory=set)

    def of(self, file: Path, qualified: str, fixtures: Iterable[str]) -> set[str]:
        """Those that may skip one check: the function ``qualified`` (``Class::name``) of ``file``."""
        found = self.helpers | self.checks.get(f"{file}::{qualified}", set())
        return found.union(*(self.fixtures.get(name, set()) for name in fixtures))


def reasons_in(files: Iterable[Path]) -> Reasons:
    """Read the reasons from Python files; what is no Python has none."""
    found = Reasons()
    for file in files:
        try:
            tree = ast.parse(file.read_bytes())
        except (SyntaxError, ValueError, OSError):
            continue  # collecting it says what is wrong with it
        for owner, function in _functions(tree, ""):
            said = set(_said(function))
            if _is_fixture(function):
                found.fixtures.setdefault(function.name, set()).update(said)
            elif function.name.startswith("test"):
                found.checks.setdefault(f"{file}::{owner}{function.name}", set()).update(said)
            else:
                found.helpers |= said
    return found


def _functions(node: ast.AST, owner: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            yield owner, child
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{owner}{child.name}::")
        else:
            yield from _functions(child, owner)


def _is_fixture(function: ast.FunctionDef) -> bool:
    return any("fixture" in ast.unparse(decorator) for decorator in function.decorator_list)


def _said(function: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("pytest.skip", "skip"):
            named = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
            pattern = _pattern(next(iter([*node.args, *named]), None))
            if pattern:
                yield pattern


def _pattern(node: ast.expr | None) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return glob.escape(node.value)
    if not isinstance(node, ast.JoinedStr):
        return ""
    fixed = [value.value for value in node.values if isinstance(value, ast.Constant)]
    if sum(c.isalpha() for text in fixed for c in str(text)) < _ENOUGH:
        return ""
    return "".join(glob.escape(str(v.value)) if isinstance(v, ast.Constant) else "*" for v in node.values)
