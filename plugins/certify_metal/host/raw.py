"""A disk candidate as the raw bytes that a machine's disk gets, and its chunk manifest; both made once per digest and kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from certify.files import write_whole
from certify.images.candidate import hex_of
from certify.images.store import Store
from certify.locks import locked
from certify.nodes.platform import Progress
from certify_disk.confined import qemu_img
from certify_disk.transport import DiskSource
from certify_metal.host.chunks import Manifest, make_manifest, read_manifest


@dataclass(frozen=True)
class RawDisk:
    """A disk image as machines get it: its bytes, what they must be, and the index of their blocks."""

    path: Path
    manifest: Manifest
    blocks: Path


def raw_disk(store: Store, source: DiskSource, progress: Progress) -> RawDisk:
    """The raw disk (with holes where there is nothing), its manifest and block index. Raises ImageError."""
    folder = store.folder("raw") / hex_of(source.candidate.digest)
    with locked(folder.with_suffix(".lock")):
        disk, note, index = folder / "disk", folder / "manifest", folder / "blocks"
        if not (note.exists() and index.exists()):
            progress("making its raw disk")
            folder.mkdir(exist_ok=True, mode=0o700)
            partial = folder / "partial"
            how = ("convert", "-q", "-f", source.format, "-O", "raw", str(source.path), str(partial))
            qemu_img(*how, reads=[source.path], writes=partial)
            progress("digesting its chunks")
            manifest, blocks = make_manifest(partial, source.candidate.digest)
            partial.chmod(0o400)
            partial.replace(disk)
            write_whole(index, blocks)
            write_whole(note, manifest.encoded())
        return RawDisk(disk, read_manifest(note.read_bytes()), index)
