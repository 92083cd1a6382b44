"""One writer at a time, also when the lock's file is taken away or is a link; a holder that dies holds nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from certify.locks import Busy, locked


def test_who_waits_too_long_is_told(tmp_path: Path) -> None:
    told: list[int] = []
    with (
        locked(tmp_path / "x" / "lock"),
        pytest.raises(Busy),
        locked(tmp_path / "x" / "lock", 0.2, lambda: told.append(1)),
    ):
        pass
    assert told


def test_it_is_free_when_its_holder_is_gone(tmp_path: Path) -> None:
    code = "import sys, os\nfrom pathlib import Path\nfrom certify.locks import locked\n"
    code += "with locked(Path(sys.argv[1])):\n    os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")]).returncode == 9
    with locked(tmp_path / "lock", 0):
        pass


def test_a_lock_whose_file_was_removed_is_not_the_one_that_others_take(tmp_path: Path) -> None:
    path, inside = tmp_path / "lock", threading.Event()

    def second() -> None:
        with locked(path):
            inside.set()

    with locked(path):
        waiting = threading.Thread(target=second)
        waiting.start()
        while not _waits(path):
            assert not inside.is_set()
        path.unlink()
        with locked(path, 0):  # a third comes, and has the new file
            pass
    waiting.join(10)
    assert inside.is_set()
    with locked(path, 0):
        assert path.exists()


def _waits(path: Path) -> bool:
    """Whether somebody else has the file open and waits (proc(5), locks)."""
    inode = f":{path.stat().st_ino} "
    return any("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError), locked(tmp_path / "lock"):
        pass
    assert not os.path.lexists(tmp_path / "elsewhere")
