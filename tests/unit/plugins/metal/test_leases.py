"""Leases: one holder at a time, also between processes, and none after the holder's death."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from certify.errors import EngineUnavailable
from certify_metal.host.leases import Leases

NODES = [("a", "uuid-a"), ("b", "uuid-b")]


def test_each_node_is_leased_once(tmp_path: Path) -> None:
    leases = Leases(tmp_path)
    first, second = leases.take(NODES, 0), leases.take(NODES, 0)
    assert {first.node, second.node} == {"a", "b"}
    with pytest.raises(EngineUnavailable, match=r"no metal node is free .*\(a, b\)"):
        leases.take(NODES, 0)
    first.release()
    first.release()
    assert leases.take(NODES, 0).node == first.node


def test_a_lease_dies_with_its_owner(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom certify_metal.host.leases import Leases\n"
        "held = Leases(Path(sys.argv[1])).take([('a', 'uuid-a')], 0)\nprint('held', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(EngineUnavailable):
            Leases(tmp_path).take(NODES[:1], 0)
        other.kill()
        other.wait()
        assert Leases(tmp_path).take(NODES[:1], 5).node == "a"
