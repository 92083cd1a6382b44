"""A root filesystem as an ext4 image: no root, no loop device, no mount.

The tree is laid out under fakeroot, which remembers owners, devices and extended attributes, and ``mke2fs -d`` reads it
through the same fakeroot. Blocks are 4 KiB whatever the size, so that a file lies on the same borders in every image, and a
machine that has one image finds the files of the next on its own disk.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from certify.errors import EngineUnavailable, ImageInvalid

_LAY_OUT = """
set -e
mkdir "$1/root"
tar -x -p -C "$1/root" --numeric-owner --xattrs --xattrs-include='*' --delay-directory-restore -f "$2"
mke2fs -q -F -t ext4 -b 4096 -d "$1/root" -L "$4" -U "$5" -E "hash_seed=$5,lazy_itable_init=1,root_owner=0:0" -m 1 "$3"
"""
_TOOLS = ("fakeroot", "tar", "mke2fs")


def make_ext4(tree: Path, target: Path, size: int, *, uuid: str, label: str = "root") -> None:
    """Write ``target``: an ext4 filesystem of ``size`` bytes and with this ``uuid``, the tar archive ``tree`` in it.

    Raises EngineUnavailable for a missing tool and ImageInvalid when the tree does not fit or cannot be laid out.
    """
    missing = [tool for tool in _TOOLS if shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin") is None]
    if missing:
        raise EngineUnavailable(f"{missing[0]} is not installed", "apt-get install fakeroot e2fsprogs tar")
    with target.open("wb") as file:
        file.truncate(size)
    with tempfile.TemporaryDirectory(prefix="certify-tree-", dir=target.parent) as folder:
        done = subprocess.run(
            ["fakeroot", "sh", "-c", _LAY_OUT, "sh", folder, str(tree), str(target), label, uuid],
            capture_output=True,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
        raise ImageInvalid(
            f"its files cannot be laid out in {size >> 20} MiB of ext4: {said[-1][:200]}", "give it more room"
        )
