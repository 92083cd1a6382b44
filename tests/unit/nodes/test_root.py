"""Root on a node is root, or there is no verdict."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from certify.errors import BootFailed
from certify.nodes.root import PROOF, require_root
from certify.nodes.shell import Result

_FULL = "000001ffffffffff"


def answer(text: str) -> Result:
    return Result(PROOF, 0, text.encode(), b"", 0.0)


@pytest.mark.parametrize("said", [f"0 {_FULL} proof", "0 00000000a00405fb proof", f"0 {_FULL} nowhere"])
def test_a_root_with_its_capabilities_is_one(said: str) -> None:
    require_root(answer(said))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("0 0000000000000000 unreadable", "lacks the capabilities CHOWN, DAC_OVERRIDE"),
        ("0 00000000000000f9 proof", "lacks the capabilities DAC_OVERRIDE"),
        (f"1000 {_FULL} proof", "its user id is 1000"),
        (f"0 {_FULL} unreadable", "cannot read a file of mode 0000"),
        ("", "its user id is ?"),
        ("0 zzz proof", "lacks the capabilities"),
        ("proof", "its user id is ?"),
    ],
)
def test_anything_else_is_no_verdict(said: str, reason: str) -> None:
    with pytest.raises(BootFailed, match=reason.replace("?", r"\?")):
        require_root(answer(said))


@pytest.mark.parametrize("shell", [["sh"], ["bash", "--posix"], ["busybox", "sh"]])
def test_the_proof_runs_in_every_shell_and_leaves_nothing(shell: list[str]) -> None:
    done = subprocess.run([*shell, "-c", PROOF], capture_output=True, text=True)
    uid, capabilities, read = done.stdout.split()
    assert int(uid) == os.getuid()
    assert len(capabilities) == 16
    assert read == ("proof" if os.getuid() == 0 else "unreadable")
    assert not list(Path("/dev/shm").glob(".certify-root*"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give its capabilities up")
def test_a_root_without_capabilities_is_found_out() -> None:
    command = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "sh", "-c", PROOF]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    with pytest.raises(BootFailed, match="lacks the capabilities"):
        require_root(answer(done.stdout))
