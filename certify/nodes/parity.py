"""Where two nodes of one candidate differ: the parity report between platforms.

Compares facts by name. What platforms cannot have in common (a container has no kernel of its own) is allowed by patterns
``kind:name``; everything else is a difference that somebody should know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from certify.nodes.facts import Facts

PARITY_SCHEMA = "certify.parity/v1"


@dataclass(frozen=True)
class Difference:
    """One fact that is not the same. ``left`` and ``right`` are texts, empty where the fact is missing."""

    kind: str
    name: str
    left: str
    right: str
    allowed: bool

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}: {self.left or '(none)'} | {self.right or '(none)'}"


def compare(left: Facts, right: Facts, allow: Iterable[str] = ()) -> list[Difference]:
    """Every difference, by kind and name; ``allow`` are shell patterns over ``kind:name``."""
    patterns = tuple(allow)
    found = []
    for kind, ours, theirs in _kinds(left, right):
        for name in sorted(ours.keys() | theirs.keys()):
            if ours.get(name) != theirs.get(name):
                allowed = any(fnmatchcase(f"{kind}:{name}", pattern) for pattern in patterns)
                found.append(Difference(kind, name, ours.get(name, ""), theirs.get(name, ""), allowed))
    return found


def report(names: tuple[str, str], differences: Iterable[Difference]) -> dict[str, Any]:
    """The shape of ``parity.json``: one comparison, ``names`` being the two targets."""
    rows = [
        {"kind": d.kind, "name": d.name, "left": d.left, "right": d.right, "allowed": d.allowed} for d in differences
    ]
    return {"left": names[0], "right": names[1], "differences": rows}


def _kinds(left: Facts, right: Facts) -> Iterator[tuple[str, dict[str, str], dict[str, str]]]:
    for kind, view in _VIEWS.items():
        yield kind, view(left), view(right)


def _sockets(facts: Facts) -> dict[str, str]:
    return {f"{s.protocol}/{s.address}/{s.port}": "listening" for s in facts.sockets}


_VIEWS: dict[str, Callable[[Facts], dict[str, str]]] = {
    "os": lambda f: f.os_release,
    "packages": lambda f: f.packages,
    "config_files": lambda f: f.config_files,
    "users": lambda f: {name: f"{u.uid}:{u.gid} {u.home} {u.shell}" for name, u in f.users.items()},
    "units": lambda f: {name: f"{u.load} {u.active} {u.sub}" for name, u in f.units.items()},
    "sockets": _sockets,
    "sysctls": lambda f: f.sysctls,
    "kernel": lambda f: {"release": f.kernel},
}
