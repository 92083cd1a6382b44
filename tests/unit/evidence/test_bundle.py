"""The evidence directory: whole or explained, whatever happens while it is written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from certify.errors import EvidenceError
from certify.evidence.bundle import Bundle, directory_digest
from tests.unit.samples import check, finished


def test_a_finished_run_is_read_back(tmp_path: Path) -> None:
    run = finished()
    assert Bundle.create(tmp_path / "r", run).read_run() == run


def test_an_interrupted_run_keeps_what_it_had(tmp_path: Path) -> None:
    run = finished(check("test_a"), check("test_b"), status="running", checks=(), verdicts={})
    bundle = Bundle.create(tmp_path / "r", run)
    bundle.append(check("test_a"))
    bundle.close()
    with (tmp_path / "r" / "outcomes.jsonl").open("ab") as file:
        file.write(b'{"id": "cut off in the mid')
    found = bundle.read_run()
    assert [(c.id.split("::")[1], c.outcome) for c in found.checks] == [
        ("test_a[app:1-container]", "passed"),
        ("test_b[app:1-container]", "no-verdict"),
    ]


def test_the_manifest_covers_every_file(tmp_path: Path) -> None:
    bundle = Bundle.create(tmp_path / "r", finished())
    bundle.write("nodes/n/console.log", b"x")
    digest = bundle.write_manifest()
    assert bundle.check_manifest() == digest


@pytest.mark.parametrize("harm", ["change", "add", "remove"])
def test_changed_evidence_is_refused(tmp_path: Path, harm: str) -> None:
    bundle = Bundle.create(tmp_path / "r", finished())
    bundle.write("nodes/n/console.log", b"x")
    bundle.write_manifest()
    file = tmp_path / "r" / "nodes" / "n" / "console.log"
    if harm == "change":
        file.write_bytes(b"y")
    elif harm == "add":
        file.with_name("more.log").write_bytes(b"")
    else:
        file.unlink()
    with pytest.raises(EvidenceError, match="after the run"):
        bundle.check_manifest()


def test_a_directory_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="No such file"):
        Bundle(tmp_path).read_run()
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(EvidenceError, match="missing required field"):
        Bundle(tmp_path).read_run()


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    """A file-size limit of the process stands in for the disk: the write fails with the same kind of error."""
    code = f"""
import resource, signal
from pathlib import Path
from certify.evidence.bundle import Bundle
from certify.errors import EvidenceError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
bundle = Bundle(Path({str(tmp_path)!r}))
try:
    bundle.write("console.log", b"x" * 5000)
except EvidenceError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "cannot keep evidence" in done.stdout, done.stderr
    assert "--evidence DIR" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_directory_digest_sees_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    first = directory_digest(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("x")
    assert directory_digest(tmp_path) == first
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert directory_digest(tmp_path) != first
