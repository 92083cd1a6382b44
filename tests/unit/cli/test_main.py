"""Help is there at once: nothing is loaded for it that only commands need."""

from __future__ import annotations

import subprocess
import sys


def test_help_loads_nothing_that_only_commands_need() -> None:
    code = "import sys; from certify.cli.main import main; sys.argv[1:] = ['--help']\ntry: main()\nfinally: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not loaded & {"msgspec", "yaml", "pluggy", "importlib.metadata", "docker", "sqlalchemy", "tuf", "pytest"}


def test_what_is_no_command_is_named_with_its_neighbours() -> None:
    done = subprocess.run([sys.executable, "-m", "certify.cli.main", "promte"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "promte" in done.stderr
