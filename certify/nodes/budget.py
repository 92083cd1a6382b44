"""How much memory the nodes of a run may use together."""

from __future__ import annotations

from pathlib import Path

_SHARE = 0.8
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def available_bytes() -> int:
    """80 % of the memory that is free now, within this process's cgroup limit."""
    meminfo = Path("/proc/meminfo").read_text()
    free = next(int(line.split()[1]) * 1024 for line in meminfo.splitlines() if line.startswith("MemAvailable:"))
    for name in _CGROUP_LIMITS:
        path = Path(name)
        if path.exists() and (text := path.read_text().strip()).isdigit():
            free = min(free, int(text))
    return int(free * _SHARE)
