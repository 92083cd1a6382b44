"""What every benchmark uses: figures, and timed commands."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
TIMES = int(os.environ.get("CERTIFY_BENCH_TIMES", "5"))
#: Our development environment has hypothesis, whose pytest plugin takes 0.5 s at the end of every run, ours and the peer's.
ENVIRONMENT = {**os.environ, "PYTEST_ADDOPTS": "-p no:hypothesispytest"}


@dataclass(frozen=True)
class Figure:
    """One measured figure beside its target; ``peer`` and ``ratio`` where there is a peer."""

    name: str
    ours: float
    unit: str
    target: str
    met: bool
    peer: float | None = None
    ratio: float | None = None


def compared(name: str, ours: float, peer: float, unit: str, at_most: float) -> Figure:
    ratio = ours / peer
    return Figure(name, ours, unit, f"≤ {at_most:.3f} × peer", ratio <= at_most, peer, ratio)


def timed(work: Path, program: str, *arguments: str) -> float:
    return timed_argv(work, [str(BIN / program), *arguments])


def timed_argv(work: Path, argv: list[str]) -> float:
    """Seconds of one run of a command that must succeed."""
    started = time.perf_counter()
    done = subprocess.run(argv, cwd=work, capture_output=True, text=True, env=ENVIRONMENT)
    took = time.perf_counter() - started
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return took


def peak_memory(work: Path, program: str, *arguments: str) -> float:
    """Peak resident megabytes of one command, asked in a child so that other children do not count."""
    argv = [str(BIN / program), *arguments]
    code = f"import resource, subprocess; subprocess.run({argv!r}, stdout=-3); print(resource.getrusage(-1).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", code], cwd=work, capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024 / 1e6
