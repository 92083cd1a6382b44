"""How much memory and how many processors the nodes of a run may use together."""

from __future__ import annotations

import os
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


def available_cpus() -> int:
    """Processors this process may run on, within its cgroup's quota; at least 1."""
    cpus = len(os.sched_getaffinity(0))
    unified, legacy = Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    quota, period = "max", "100000"
    if unified.exists():
        quota, period = unified.read_text().split()
    elif legacy.exists():
        quota, period = legacy.read_text().strip(), legacy.with_name("cpu.cfs_period_us").read_text().strip()
    return max(1, min(cpus, int(quota) // int(period))) if quota.isdigit() else max(1, cpus)
