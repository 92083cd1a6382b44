"""A disk candidate as a container: its root filesystem imported into the engine, once per digest."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from certify.errors import EngineUnavailable, ImageNotFound
from certify.images.candidate import Candidate, ImageConfig, ImageSource, hex_of
from certify.nodes.platform import Progress
from certify.processes import is_installed
from certify_docker.engine import translated

_REPOSITORY = "certify-disk"
#: How a system that was made for a machine is started (systemd.io/CONTAINER_INTERFACE).
DISK_CONFIG = ImageConfig(entrypoint=("/sbin/init",), stop_signal="SIGRTMIN+3")


def import_disk(client: Any, source: ImageSource, progress: Progress) -> Candidate:
    """The candidate with the engine's image in place of its disk. Raises ImageInvalid for a disk that cannot be read."""
    if not is_installed("oslo_utils", "ext4"):
        raise EngineUnavailable("disk images need pytest-certify[disk]", "pip install 'pytest-certify[disk]'")
    from certify_disk.export import export_root
    from certify_disk.transport import DiskSource

    assert isinstance(source, DiskSource)
    tag = hex_of(source.candidate.digest)[:32]
    found = _imported(client, tag)
    if found is None:
        progress("importing its root filesystem")
        with tempfile.NamedTemporaryFile(prefix="certify-root-", suffix=".tar") as file:
            export_root(source, Path(file.name))
            changes = ['ENTRYPOINT ["/sbin/init"]']
            with translated():
                client.api.import_image_from_file(file.name, repository=_REPOSITORY, tag=tag, changes=changes)
        found = _imported(client, tag) or ""
    return replace(source.candidate, config_digest=found, config=DISK_CONFIG)


def _imported(client: Any, tag: str) -> str | None:
    try:
        with translated():
            return str(client.api.inspect_image(f"{_REPOSITORY}:{tag}")["Id"])
    except ImageNotFound:
        return None
