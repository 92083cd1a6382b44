"""inotify instances of this host (inotify(7)): each systemd wants a handful, and all containers share what is left over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

#: Fewer than this do not suffice for a run with several nodes beside what else a host does.
ENOUGH = 512
REMEDY = f"sysctl -w fs.inotify.max_user_instances={ENOUGH}"
_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
_FEW = 4


def most() -> int | None:
    """How many one user may have; None where the kernel does not say."""
    try:
        return int(_LIMIT.read_text())
    except (OSError, ValueError):
        return None


def is_short(most_allowed: int | None) -> bool:
    """Whether root, who runs containers' systemds, has next to none left. Looks at all processes that may be looked at."""
    return most_allowed is not None and sum(1 for _ in _instances()) > most_allowed - _FEW


def _instances() -> Iterator[Path]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == 0:
                yield from (fd for fd in (process / "fd").iterdir() if fd.readlink().name == "anon_inode:inotify")
        except OSError:
            continue  # it has ended, or is not ours to look at
