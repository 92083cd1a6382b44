"""What certify starts sees nothing of the caller's environment that brings code."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from certify.processes import choosing_variables, clean_environment, own_python


def test_nothing_of_the_environment_brings_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("open('reached', 'w')\n")
    (tmp_path / "certify").mkdir()
    (tmp_path / "certify" / "__init__.py").write_text("open('shadowed', 'w')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONUSERBASE", str(tmp_path))
    monkeypatch.setenv("PYTEST_PLUGINS", "evil")
    done = subprocess.run(
        own_python("certify.trust.notary"), input=b"", cwd=tmp_path, env=clean_environment(), capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"sitecustomize.py", "certify"}
    told = "\n".join(choosing_variables(os.environ))
    assert f"PYTHONPATH={tmp_path}" in told
    assert "PYTEST_PLUGINS=evil" in told


def test_what_chooses_no_code_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "PYTEST_XDIST_WORKER"):
        monkeypatch.setenv(name, "1")
    assert not [v for v in choosing_variables(os.environ) if v.startswith(("PYTHONDONT", "PYTHONUNB", "PYTEST_XDIST"))]
