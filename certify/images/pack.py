"""Any opened image as the stream ``docker load`` reads, with its config bytes untouched.

The engine computes its image ID from the config bytes and checks every layer against the config's ``diff_ids``; we
check every blob against the manifest on the way. So the bytes that boot are the bytes that were resolved, or nothing is.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator

from certify.images.candidate import ImageSource, hex_of, verified

_BLOCK = 512


def docker_archive(source: ImageSource, tag: str | None = None) -> Iterator[bytes]:
    """Yield a docker archive of ``source`` in pieces. Raises DigestMismatch before the end if any blob is wrong."""
    candidate = source.candidate
    name = hex_of(candidate.config_digest)
    blobs, config = source.layers(), source.config_bytes()
    layers = [f"{hex_of(layer.digest)}/layer.tar" for layer in blobs]
    written: set[str] = set()
    for layer, path in zip(blobs, layers, strict=True):
        if path in written:
            continue
        written.add(path)
        what = f"{candidate.reference}: layer {layer.digest}"
        yield from _member(path, layer.size, verified(source.blob(layer), layer.digest, layer.size, what))
    yield from _member(f"{name}.json", len(config), iter([config]))
    manifest = json.dumps([{"Config": f"{name}.json", "RepoTags": [tag] if tag else None, "Layers": layers}]).encode()
    yield from _member("manifest.json", len(manifest), iter([manifest]))
    yield b"\0" * (2 * _BLOCK)


def _member(name: str, size: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    yield info.tobuf(tarfile.GNU_FORMAT)
    yield from pieces
    yield b"\0" * (-size % _BLOCK)
