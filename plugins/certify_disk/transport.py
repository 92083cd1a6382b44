"""Paths of disk images: resolves them to frozen copies in the store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from certify.config import Images
from certify.errors import CertifyError, ImageInvalid, ImageNotFound
from certify.images.candidate import Candidate, ImageSource, Layer, this_architecture
from certify.images.files import ImageFiles
from certify.images.reference import Reference
from certify.images.store import Frozen, Store
from certify.models import size_bytes
from certify_disk.contents import examine
from certify_disk.formats import unpack
from certify_disk.tree import DiskFiles


class DiskSource(ImageSource):
    """A frozen disk. ``path`` is read-only and stays as it is; ``format`` is what every tool must be told it is."""

    def __init__(self, candidate: Candidate, frozen: Frozen) -> None:
        self.candidate = candidate
        self.path = frozen.path
        self.format = str(frozen.info["format"])
        self.virtual_size = int(frozen.info["virtual_size"])
        self.given, self.packing = str(frozen.info["given"]), str(frozen.info["packing"])

    def config_bytes(self) -> bytes:
        return b""

    def layers(self) -> tuple[Layer, ...]:
        return ()

    def blob(self, layer: Layer) -> Iterator[bytes]:
        raise ImageInvalid(f"{self.candidate.reference}: a disk has no layer {layer.digest}")

    def files(self, limits: Images) -> ImageFiles:
        del limits  # a disk was within them when it was frozen
        return DiskFiles(self)

    def describe(self) -> dict[str, Any]:
        found = examine(self)
        return {
            "format": self.given,
            "packing": self.packing or None,
            "virtualSize": self.virtual_size,
            "realSize": self.path.stat().st_blocks * 512,
            "partitionTable": found.table,
            "partitions": [asdict(partition) for partition in found.partitions],
            "firmware": list(found.firmware),
            "osRelease": found.os_release,
        }


class DiskTransport:
    """Opens paths of disk images."""

    scheme = "disk"

    def __init__(self, settings: Images) -> None:
        self._settings = settings

    def open(self, reference: Reference) -> ImageSource:
        path = Path(reference.location)
        if not path.is_file():
            what = "not a regular file" if path.exists() else "no such file"
            raise ImageNotFound(f"{path}: {what}", "check the path; a disk image is one file")
        if path.stat().st_size > size_bytes(self._settings.max_size):
            raise ImageInvalid(
                f"{path}: larger than images.max_size ({self._settings.max_size})", "allow more in certify.yaml"
            )
        try:
            frozen = Store(Path(self._settings.store)).freeze(path, self._unpack)
        except CertifyError as error:
            raise type(error)(
                error.message if str(path) in error.message else f"{path}: {error.message}", error.hint
            ) from None
        return DiskSource(_candidate(reference, frozen, path.stat().st_size), frozen)

    def _unpack(self, given: Path, disk: Path) -> dict[str, Any]:
        return asdict(unpack(given, disk, self._settings))


def _candidate(reference: Reference, frozen: Frozen, size: int) -> Candidate:
    info = frozen.info
    packing = f"; packing={info['packing']}" if info["packing"] else ""
    return Candidate(
        reference=reference,
        digest=frozen.digest,
        kind="disk",
        size=size,
        os="linux",
        architecture=this_architecture(),
        config_digest=frozen.digest,
        media_type=f"application/x-disk; format={info['given']}{packing}",
    )
