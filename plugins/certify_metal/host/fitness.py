"""Whether an image has what it takes to prove itself on metal, read from its disk before any node is touched."""

from __future__ import annotations

from certify.errors import ImageInvalid
from certify_disk.contents import examine, read_file, root_partition
from certify_disk.transport import DiskSource

_NEEDED = {"cloud-init": "/usr/bin/cloud-init", "python3": "/usr/bin/python3"}


def check_fitness(source: DiskSource) -> None:
    """Raises ImageInvalid for what is surely missing; a root filesystem that cannot be read here is given its chance."""
    name = source.candidate.reference
    table = examine(source).table
    if table != "gpt":
        raise ImageInvalid(
            f"{name}: metal needs a GUID partition table, and it has {'none' if table == 'none' else table}",
            "make the image with a GPT; its second copy is moved to the end of each node's disk",
        )
    try:
        root = root_partition(source)
    except ImageInvalid:
        return
    missing = [what for what, path in _NEEDED.items() if not read_file(source, root, path, cap=1)]
    if missing:
        raise ImageInvalid(
            f"{name}: it has no {' and no '.join(missing)}, so nothing in it would call home from a metal node",
            f"install {' and '.join(missing)} in the image",
        )
