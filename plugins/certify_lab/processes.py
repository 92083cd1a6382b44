"""A background process of the lab: known by its pid and the moment it started, so that nobody else's is ever ended."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from pathlib import Path

from certify.nodes.owner import is_alive, owner_name

_STOP_SECONDS = 15.0


class Daemon:
    """One program, its pid file and, beside that, its log."""

    def __init__(self, name: str, note: Path) -> None:
        self.name = name
        self._note = note
        self.log = note.parent / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self, command: list[str], environment: dict[str, str], folder: Path, *, user: pwd.struct_passwd | None = None
    ) -> None:
        """Start it in a session of its own, as ``user`` where we may choose."""
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user and os.getuid() == 0 else {}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **who,  # type: ignore[call-overload]
            )  # fmt: skip
        self._note.write_text(owner_name(self._process.pid))

    def runs(self) -> bool:
        """Whether the process that was started still does."""
        return self._pid() is not None

    def stop(self) -> None:
        """Ask it to end, kill it when it does not. Safe to repeat."""
        pid = self._pid()
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while self._pid() is not None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        if self._process is not None:
            self._process.wait()
        self._note.unlink(missing_ok=True)

    def _pid(self) -> int | None:
        try:
            owner = self._note.read_text()
            return int(owner.split("/")[2]) if is_alive(owner) else None
        except (OSError, ValueError, IndexError):
            return None
