"""What a console says, read as it is written: is this boot lost, and what did not go well?

The patterns are in ``console_patterns.yaml`` beside this file. A console is the guest's own words: bytes of any kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

_LINE_CAP = 4096
#: Colours and cursor movements (ECMA-48 control sequences, and the single-character ones).
_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_=>c])|[\x00-\x08\x0e-\x1f]")
_STAMP = re.compile(r"^\[ *\d+\.\d+\] ")


@dataclass(frozen=True)
class Fault:
    """One line that says what went wrong; ``fatal`` when nothing better can come."""

    line: str
    means: str
    fatal: bool


def plain_lines(console: bytes) -> list[str]:
    """The console's lines without escape sequences and kernel time stamps, empty ones left out."""
    text = _ESCAPES.sub(b"", console).decode("utf-8", "replace").replace("\r", "\n")
    return [line for line in (_STAMP.sub("", part.strip()) for part in text.split("\n")) if line]


def faults(console: bytes, ignore: Iterable[str] = ()) -> list[Fault]:
    """Every line that matches a pattern and none of the ``ignore`` expressions, in order."""
    ignored = [re.compile(pattern) for pattern in ignore]
    return [found for line in plain_lines(console) if (found := _judge(line, ignored)) is not None]


class ConsoleWatch:
    """Reads a console piece by piece and remembers the first fatal line. Feed it from one thread."""

    def __init__(self, ignore: Iterable[str] = ()) -> None:
        self._ignored = [re.compile(pattern) for pattern in ignore]
        self._rest = b""
        self.fatal: Fault | None = None

    def feed(self, data: bytes) -> None:
        """Take the next bytes. A prompt that waits behind the last newline counts too."""
        self._rest = (self._rest + data)[-_LINE_CAP * 16 :]
        lines = plain_lines(self._rest)
        self._rest = self._rest[max(self._rest.rfind(b"\n"), self._rest.rfind(b"\r")) + 1 :][-_LINE_CAP:]
        for line in lines if self.fatal is None else ():
            found = _judge(line, self._ignored)
            if found is not None and found.fatal:
                self.fatal = found
                return

    def forget(self) -> None:
        """A new boot begins."""
        self._rest, self.fatal = b"", None


def _judge(line: str, ignored: list[re.Pattern[str]]) -> Fault | None:
    for pattern, means, fatal in _patterns():
        if pattern.search(line):
            return None if any(expression.search(line) for expression in ignored) else Fault(line[:300], means, fatal)
    return None


@lru_cache(maxsize=1)
def _patterns() -> tuple[tuple[re.Pattern[str], str, bool], ...]:
    data = yaml.safe_load(Path(__file__).with_name("console_patterns.yaml").read_text())
    return tuple(
        (re.compile(entry["pattern"]), entry["means"], kind == "fatal")
        for kind in ("fatal", "bad")
        for entry in data[kind]
    )
