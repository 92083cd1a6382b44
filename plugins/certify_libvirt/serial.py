"""The serial console of a node: kept from the first byte, watched for fatal lines, and typed on when nothing else helps."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterable

from certify.nodes.console import ConsoleWatch, Fault, plain_lines

_CAP = 8 * 1024**2


class SerialConsole:
    """Reads in a thread of its own until the machine ends."""

    def __init__(
        self, ignore: Iterable[str] = (), watch: Callable[[bytes], None] | None = None, before: bytes = b""
    ) -> None:
        self._scanner = ConsoleWatch(ignore)
        self._watch = watch
        self._kept = bytearray(before)
        self._dropped = 0
        self._changed = threading.Condition()
        self._pipe: socket.socket | None = None
        self._boot_began = len(before)

    def attach(self, pipe: socket.socket) -> None:
        """Read from a (new) connection."""
        self._pipe = pipe
        pipe.settimeout(None)
        threading.Thread(target=self._read, args=(pipe,), name="certify-console", daemon=True).start()

    def _read(self, pipe: socket.socket) -> None:
        while True:
            try:
                data = pipe.recv(65536)
            except OSError:
                return
            if not data:
                return
            with self._changed:
                self._kept += data
                if len(self._kept) > _CAP:
                    self._dropped += len(self._kept) - _CAP
                    del self._kept[: len(self._kept) - _CAP]
                self._scanner.feed(data)
                self._changed.notify_all()
            if self._watch is not None:
                self._watch(data)

    @property
    def contents(self) -> bytes:
        """Everything so far, or its last 8 MiB."""
        with self._changed:
            return bytes(self._kept)

    @property
    def this_boot(self) -> bytes:
        """What has been written since the latest boot was begun."""
        with self._changed:
            return bytes(self._kept[max(0, self._boot_began - self._dropped) :])

    @property
    def fatal(self) -> Fault | None:
        """The first line after which nothing better can come."""
        with self._changed:
            return self._scanner.fatal

    def begin_boot(self) -> None:
        """What comes now belongs to another boot."""
        with self._changed:
            self._boot_began = self._dropped + len(self._kept)
            self._scanner.forget()

    def says(self, text: str) -> bool:
        """Whether this boot has written ``text``."""
        return text.encode() in self.this_boot

    def talk(self, dialogue: Iterable[tuple[str, str]], deadline: float) -> bool:
        """Wait for each prompt in turn (an expression for the end of what was written) and type its answer and Return."""
        at = 0
        for prompt, answer in dialogue:
            expression = re.compile(prompt.encode())
            with self._changed:
                while not expression.search(bytes(self._kept[at:])):
                    if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                        return False
                at = len(self._kept)
            try:
                assert self._pipe is not None
                self._pipe.sendall(answer.encode() + b"\r")
            except OSError:
                return False
        return True

    def last_words(self) -> str:
        """The end of this boot's console, on one line, printable."""
        line = " | ".join(part[:160] for part in plain_lines(self.this_boot[-4000:])[-4:])
        return "".join(c if c.isprintable() else "?" for c in line)[-400:] or "none"

    def close(self) -> None:
        """Hang up; what was read stays."""
        if self._pipe is not None:
            self._pipe.close()
