"""Bring a candidate's image into an engine, exactly as resolved or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from certify.errors import CertifyError, ImageInvalid, ImageNotFound
from certify.images.candidate import ImageSource
from certify.images.pack import docker_archive
from certify.nodes.platform import Progress
from certify_docker.engine import translated


def ensure_image(client: Any, source: ImageSource, progress: Progress) -> None:
    """Have the image in the engine under its config digest; load it when it is not there.

    Raises DigestMismatch for blobs that are wrong and ImageInvalid when the engine refuses or ends up with other bytes.
    """
    wanted = source.candidate.config_digest
    if has_image(client, wanted):
        return
    progress("loading image")
    said = _load(client, source)
    if not has_image(client, wanted):
        raise ImageInvalid(
            f"{source.candidate.reference}: the engine refused the image: {said[:200] or 'no reason given'}",
            "its layers and config do not belong together; build or copy it again",
        )


def has_image(client: Any, digest: str) -> bool:
    """Whether the engine has the image with this config digest."""
    try:
        with translated():
            client.api.inspect_image(digest)
        return True
    except ImageNotFound:
        return False


def _load(client: Any, source: ImageSource) -> str:
    """Stream the image in. Returns what the engine said last; our own errors win over the broken connection's."""
    ours: list[CertifyError] = []

    def pieces() -> Iterator[bytes]:
        try:
            yield from docker_archive(source)
        except CertifyError as error:
            ours.append(error)
            raise

    said = ""
    try:
        with translated():
            for line in client.api.load_image(pieces()):
                said = str(line.get("error") or line.get("stream") or said).strip()
    except CertifyError as error:
        if ours:
            raise ours[0] from None
        with translated():
            client.ping()  # an engine that still answers has refused the image; one that does not raises here
        return error.message
    return said
