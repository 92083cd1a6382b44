"""What took part in a run beside its suites, kept where what took part cannot reach it.

The notary's process (:mod:`certify.trust.notary`) starts before the run loads any file of the project. Of each file of code it
is told *before* the file's first line runs, and forgets nothing; how the run's process was started it sees for itself.
"""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from msgspec import Struct

from certify.evidence.run import Part
from certify.evidence.suite_files import SuiteFiles
from certify.images.candidate import digest_of
from certify.processes import choosing_variables, installed_places

#: ``-X`` options that choose no code.
_HARMLESS = (
    "dev", "utf8", "faulthandler", "tracemalloc", "importtime", "showrefcount", "no_debug_ranges", "int_max_str_digits",
    "warn_default_encoding", "frozen_modules",
)  # fmt: skip
#: Stands for an option's letter where an interpreter runs a script.
_SCRIPT = "script"
#: What files of modules end with.
_MODULES = (".py", ".pyc", ".so")
#: Entry points that bring code into a run.
_GROUPS = ("pytest11", "certify")
#: What a worker of xdist calls itself.
_WORKER = "PYTEST_XDIST_WORKER"


class Loaded(Struct, frozen=True, tag="loaded"):
    """A file of code that is about to run: its absolute path, and the digest it has now; empty for what is no plain file."""

    path: str
    digest: str = ""


class Witness:
    """One run's. ``process`` is the id of the process that runs the checks."""

    def __init__(self, process: int) -> None:
        self._started = list(as_started(process))
        self._told: set[Loaded | Part] = set()

    def take(self, *told: Loaded | Part) -> None:
        """Remember what was told."""
        self._told.update(told)

    def parts(self, suites: Iterable[SuiteFiles], base: Path) -> tuple[Part, ...]:
        """All of it but the suites' own files, which their digests cover. Files are named relative to ``base``."""
        places = list(suites)
        found = {
            _named(told, base) if isinstance(told, Loaded) else told
            for told in (*self._told.copy(), *self._started)
            if not (isinstance(told, Loaded) and any(place.holds(Path(told.path)) for place in places))
        }
        return tuple(sorted(found))


def as_started(process: int) -> Iterator[Loaded | Part]:
    """What a process was told to load by those who started it: variables, pytest's ``-p``, a program of its own."""
    proc = Path("/proc") / str(process)
    try:
        argv, environ = (_strings(proc / name) for name in ("cmdline", "environ"))
        folder = (proc / "cwd").resolve()
    except OSError as error:
        yield Part(kind="module", name=f"a process that cannot be looked at ({error.strerror})")
        return
    variables = dict(pair.split("=", 1) for pair in environ if "=" in pair)
    for variable in choosing_variables(variables):
        yield Part(kind="ini", name=variable)
    if _WORKER in variables:  # a worker has no notary, and what has one gives itself out as one
        yield Part(kind="ini", name=f"{_WORKER}={variables[_WORKER]}")
    for name in _named_plugins(argv):
        yield Part(kind="ini", name=f"-p {name}")
    for option in _interpreters_options(argv):
        yield Part(kind="ini", name=option)
    yield from _program(argv, folder)


def _program(argv: Sequence[str], folder: Path) -> Iterator[Loaded | Part]:
    """The program, unless it is an installed one."""
    kind, name = next(reversed([("c", ""), *_asked(argv)]))
    if kind == _SCRIPT:
        script = (folder / name).resolve()
        if script.parent not in _script_folders() and not is_installed_file(script):
            yield loaded(str(script))
    elif kind == "m":
        if not _is_installed(name):
            yield Part(kind="ini", name=f"-m {name}")
        if not _is_isolated(argv):
            yield from _shadows(folder)
    else:
        yield Part(kind="module", name="__main__")


def _script_folders() -> set[Path]:
    """Where installed packages put their programs, for this user too."""
    return {Path(sysconfig.get_path("scripts", scheme)).resolve() for scheme in sysconfig.get_scheme_names()}


def _asked(argv: Sequence[str]) -> Iterator[tuple[str, str]]:
    """An interpreter's own options, each its letter and value, and last what it runs: ``m``, ``c`` or :data:`_SCRIPT`."""
    rest = iter(argv[1:])
    for argument in rest:
        if not argument.startswith("-"):
            yield _SCRIPT, argument
            return
        if argument == "-":  # code from standard input
            yield "c", ""
            return
        if argument.startswith("--"):
            next(rest, None)  # --check-hash-based-pycs is the only one that runs anything, and it has a value
            continue
        for at, letter in enumerate(argument[1:], 2):
            if letter in "cmWX":
                yield letter, argument[at:] or next(rest, "")
                break
            yield letter, ""
        if letter in "cm":
            return


def _is_isolated(argv: Sequence[str]) -> bool:
    """Whether an interpreter was told to leave the current folder out (``-P``, ``-I``)."""
    return any(letter in ("P", "I") for letter, _ in _asked(argv))


def _shadows(folder: Path) -> Iterator[Loaded | Part]:
    """What lies in the current folder and is taken for what is installed: modules of its names, and packages' metadata."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        yield Part(kind="module", name=f"the current folder, which cannot be looked at ({error.strerror})")
        return
    for path in paths:
        if path.suffix in (".dist-info", ".egg-info"):
            points = path / "entry_points.txt"
            if points.is_file() and any(group in points.read_text("utf-8", "replace") for group in _GROUPS):
                yield Part(kind="ini", name=path.name)
        elif path.is_dir():
            inits = [init for suffix in _MODULES if (init := path / f"__init__{suffix}").exists()]
            yield from (loaded(str(init)) for init in inits if _is_installed_elsewhere(path.name, path))
        elif path.suffix in _MODULES and _is_installed_elsewhere(path.name.partition(".")[0], path):
            yield loaded(str(path))


def _is_installed_elsewhere(module: str, path: Path) -> bool:
    try:
        spec = importlib.util.find_spec(module) if module != "__main__" else None
    except (ImportError, ValueError):
        return False
    return spec is not None and path.resolve() not in (Path(spec.origin or "/"), Path(spec.origin or "/").parent)


def _interpreters_options(argv: Sequence[str]) -> Iterator[str]:
    """``-X`` options that choose what is loaded, and ``-W`` ones that name a category in a module."""
    for letter, value in _asked(argv):
        if (letter == "X" and value.partition("=")[0] not in _HARMLESS) or (letter == "W" and "." in value):
            yield f"-{letter} {value}"


def _named_plugins(argv: Sequence[str]) -> Iterator[str]:
    """The plugins that ``-p`` loads and no installed package brings."""
    names = {point.name for point in entry_points(group="pytest11")}
    for argument, following in zip(argv, (*argv[1:], ""), strict=True):
        name = following if argument == "-p" else argument[2:] if argument.startswith("-p") else ""
        if name and not name.startswith("no:") and name not in names and not _is_installed(name):
            yield name


def _is_installed(module: str) -> bool:
    """Whether a module is found where nothing of the caller's is looked at (this process is started so)."""
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def is_installed_file(path: Path) -> bool:
    """Whether a file is one of the interpreter's or of an installed package."""
    return any(path.is_relative_to(place) for place in installed_places())


def loaded(path: str) -> Loaded:
    """A file as it is now."""
    file = Path(path)
    named = os.fsencode(path).decode("utf-8", "backslashreplace")  # names are bytes, and evidence is text
    return Loaded(named, digest_of(file.read_bytes()) if file.is_file() else "")


def _named(told: Loaded, base: Path) -> Part:
    path = Path(told.path)
    kind = "conftest" if path.name == "conftest.py" else "module"
    name = path.relative_to(base).as_posix() if path.is_relative_to(base) else str(path)
    return Part(kind=kind, name=name, digest=told.digest)


def _strings(path: Path) -> list[str]:
    """The strings of a file in which each ends with a zero byte."""
    return [part.decode("utf-8", "surrogateescape") for part in path.read_bytes().split(b"\0")[:-1]]
