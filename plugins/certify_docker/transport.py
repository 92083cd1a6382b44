"""``docker-daemon:``: images in a docker engine.

The engine's image ID is the digest of the config bytes, and the identity; a manifest digest exists in an engine only for
images that were pulled or pushed, and is kept beside it.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from certify.errors import ImageNotFound
from certify.images.candidate import Candidate, ImageSource, Layer, image_config
from certify.images.oci import DockerArchiveTransport
from certify.images.reference import Reference
from certify.images.rootfs import LayeredSource
from certify.printable import printable
from certify_docker.engine import connected, translated


class DaemonSource(LayeredSource):
    """An image in an engine. Its bytes are exported only when somebody asks for them."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate

    @cached_property
    def _exported(self) -> ImageSource:
        kept = tempfile.TemporaryFile()  # noqa: SIM115 - it has no name, and is gone with us, however we end
        weakref.finalize(self, kept.close)
        path = Path(f"/proc/self/fd/{kept.fileno()}")
        with connected() as client, translated(ImageNotFound):
            for piece in client.api.get_image(self.candidate.config_digest):
                kept.write(piece)
            kept.flush()
        return DockerArchiveTransport().open(Reference("docker-archive", str(path)))

    def config_bytes(self) -> bytes:
        return self._exported.config_bytes()

    def layers(self) -> tuple[Layer, ...]:
        return self._exported.layers()

    def blob(self, layer: Layer) -> Iterator[bytes]:
        return self._exported.blob(layer)


class DaemonTransport:
    """Opens ``docker-daemon:`` references in the environment's engine."""

    scheme = "docker-daemon"

    def open(self, reference: Reference) -> ImageSource:
        with connected() as client:
            return DaemonSource(self._inspect(client, reference))

    @staticmethod
    def _inspect(client: Any, reference: Reference) -> Candidate:
        name = f"{reference.location}:{reference.tag}" if reference.tag else reference.location
        if reference.digest:
            name = f"{reference.location}@{reference.digest}" if reference.location else reference.digest
        try:
            with translated():
                found = client.api.inspect_image(name)
        except ImageNotFound:
            raise ImageNotFound(f"{reference}: the engine has no such image", _near(client, name)) from None
        return candidate_of(reference, found)


def candidate_of(reference: Reference, found: dict[str, Any]) -> Candidate:
    """The candidate that the engine's ``inspect`` answer describes."""
    return Candidate(
        reference=reference,
        digest=found["Id"],
        kind="oci",
        size=int(found.get("Size") or 0),
        os=printable(found.get("Os", "")),
        architecture=printable(found.get("Architecture", "")),
        config_digest=found["Id"],
        config=image_config(found.get("Config") or {}),
        media_type="application/vnd.docker.container.image.v1+json",
        created=printable(str(found.get("Created") or "")),
        diff_ids=tuple((found.get("RootFS") or {}).get("Layers") or ()),
    )


def _near(client: Any, name: str) -> str:
    from difflib import get_close_matches

    with translated():
        tags = [tag for image in client.api.images() for tag in image.get("RepoTags") or ()]
    near = get_close_matches(name, tags, 1, 0.5)
    return f"did you mean docker-daemon:{near[0]}?" if near else "list what is there with `docker images`"
