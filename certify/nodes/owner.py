"""Who made a container, network or lease: a process, named so that its death can be seen later.

The name is ``<host>/<boot id>/<pid>/<start time>``: a reused pid or a rebooted host is not mistaken for the owner.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_process() -> str:
    """The owner name of the running process."""
    return owner_name(os.getpid())


def owner_name(pid: int) -> str:
    """The owner name of a process of this host."""
    return f"{_host()}/{_boot_id()}/{pid}/{_started(pid)}"


def is_alive(owner: str) -> bool:
    """Whether the owner still runs. An owner on another host cannot be seen from here and counts as alive."""
    parts = owner.split("/")
    if len(parts) != 4 or not parts[2].isdigit():
        return False
    host, boot_id, pid, started = parts
    if host != _host():
        return True
    return boot_id == _boot_id() and _started(int(pid)) == started


def _host() -> str:
    return socket.gethostname().replace("/", "_")


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _started(pid: int) -> str:
    """Start time in clock ticks since boot (proc(5), field 22 of stat); empty when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
