"""Tells of every file of code before its first line runs, by the interpreter's audit events (PEP 578).

An audit hook cannot be taken away again. What the interpreter brings and what is installed is passed over; everything else,
a conftest, a helper, a compiled file without its source, is told once, with the digest it has at that moment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from certify.processes import trusted_places
from certify.trust.witness import Loaded, loaded


class Watch:
    """One process's, from when it is made until :meth:`end`."""

    def __init__(self, tell: Callable[[Loaded], None]) -> None:
        self._tell = tell
        self._seen: set[str] = set()
        self._passed_over = tuple(f"{place}{os.sep}" for place in trusted_places())
        for name, module in list(sys.modules.items()):
            if name == "usercustomize":  # it may lie among what is installed, and one user wrote it
                self._tell(loaded(str(module.__file__)))
            elif name != "__main__":  # what was started, the witness sees for itself
                self._has_run(module)
        self._watches = True
        sys.addaudithook(self._heard)

    def end(self) -> None:
        """Tell nothing more. Safe to repeat."""
        self._watches = False

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """``exec`` of a code object; ``import`` of an extension's file; ``open`` of a compiled file, whose code may bear any
        file's name."""
        if not self._watches:
            return
        if event == "exec":
            self._found(getattr(arguments[0], "co_filename", None))
        elif event == "import":
            self._found(arguments[1])
        elif event == "open" and _is_compiled(arguments[0]):
            self._found(arguments[0])

    def _has_run(self, module: Any) -> None:
        """A module that was there before; one out of an archive, or from a loader of somebody's own, too."""
        spec = getattr(module, "__spec__", None)
        origin = getattr(spec, "origin", None) if getattr(spec, "has_location", False) else None
        self._found(getattr(module, "__file__", None) or origin)

    def _found(self, name: Any) -> None:
        if not isinstance(name, str) or name in self._seen or name.startswith(self._passed_over):
            return
        if name.startswith("<") or (sys.pycache_prefix and name.startswith(f"{sys.pycache_prefix}{os.sep}")):
            return  # text that code which was told of has made; what was compiled just now
        self._seen.add(name)
        path = Path(name).resolve()
        if not str(path).startswith(self._passed_over):
            self._tell(loaded(str(path)))


def _is_compiled(name: object) -> bool:
    """Whether a name is that of a compiled file that is there; Python looks for many that are not."""
    return isinstance(name, str) and name.endswith(".pyc") and Path(name).exists()
