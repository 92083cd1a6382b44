"""A layer's bytes, checked: as stored against its digest, unpacked against the config's ``diff_id`` and within limits.

OCI image-spec 1.1, layer.md (``+gzip``, ``+zstd``) and config.md (``rootfs.diff_ids``). The packing is read off the bytes: a
media type is only a claim.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator

from certify.config import Images
from certify.errors import DigestMismatch, EngineUnavailable, ImageInvalid
from certify.images.candidate import ImageSource, Layer, verified
from certify.models import size_bytes
from certify.processes import is_installed

_SMALL = 64 * 1024 * 1024  # what a layer may always unpack to, whatever the ratio
_PIECE = 1024 * 1024


def unpacked(source: ImageSource, layer: Layer, diff_id: str, limits: Images) -> Iterator[bytes]:
    """The layer's tar archive in pieces.

    Raises DigestMismatch at the end when the stored or the unpacked bytes are others, ImageInvalid as soon as there are too
    many of them.
    """
    what = f"{source.candidate.reference}: layer {layer.digest}"
    most = min(size_bytes(limits.max_size), max(_SMALL, layer.size * limits.max_ratio))
    hasher, total = hashlib.sha256(), 0
    for piece in _plain(verified(source.blob(layer), layer.digest, layer.size, what), what):
        total += len(piece)
        if total > most:
            raise ImageInvalid(
                f"{what}: {layer.size} bytes unpack to more than {most}",
                "no real layer does; images.max_size and images.max_ratio in certify.yaml allow more",
            )
        hasher.update(piece)
        yield piece
    if f"sha256:{hasher.hexdigest()}" != diff_id:
        raise DigestMismatch(
            f"{what}: its content is not the one that the image's config names ({diff_id})",
            "what would boot is not what was named: build or copy the image again",
        )


def require_layers(source: ImageSource, limits: Images) -> None:
    """Check every layer of an image. Raises DigestMismatch, ImageInvalid."""
    for layer, diff_id in paired(source):
        for _ in unpacked(source, layer, diff_id, limits):
            continue


def paired(source: ImageSource) -> list[tuple[Layer, str]]:
    """Each layer with the ``diff_id`` its config gives it. Raises ImageInvalid when their numbers differ."""
    layers, diff_ids = source.layers(), source.candidate.diff_ids
    if len(layers) != len(diff_ids):
        raise ImageInvalid(
            f"{source.candidate.reference}: {len(layers)} layers, but its config lists {len(diff_ids)}",
            "build or copy the image again",
        )
    return list(zip(layers, diff_ids, strict=True))


def _plain(pieces: Iterator[bytes], what: str) -> Iterator[bytes]:
    first = next(pieces, b"")
    rest = _joined(first, pieces)
    try:
        if first.startswith(b"\x1f\x8b"):
            yield from _gunzip(rest)
        elif first.startswith(b"\x28\xb5\x2f\xfd"):
            yield from _unzstd(rest)
        else:
            yield from rest
    except (zlib.error, EOFError) as error:
        raise ImageInvalid(f"{what}: cut or damaged ({error})", "build or copy the image again") from None


def _joined(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from pieces


def _gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """All members, in bounded pieces (RFC 1952)."""
    reader = zlib.decompressobj(wbits=31)
    for piece in pieces:
        data = piece
        while data:
            if reader.eof:
                if not data.strip(b"\0"):
                    break  # padding behind the last member
                reader = zlib.decompressobj(wbits=31)
            yield reader.decompress(data, _PIECE)
            data = reader.unconsumed_tail or reader.unused_data
    if not reader.eof:
        raise EOFError("the gzip stream has no end")


def _unzstd(pieces: Iterator[bytes]) -> Iterator[bytes]:
    if not is_installed("zstandard"):
        raise EngineUnavailable("zstd layers need pytest-certify[disk]", "pip install 'pytest-certify[disk]'")
    import zstandard

    reader = zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj(write_size=_PIECE, read_across_frames=True)
    try:
        for piece in pieces:
            for start in range(0, len(piece), 65536):
                yield reader.decompress(piece[start : start + 65536])
    except zstandard.ZstdError as error:
        raise EOFError(str(error)) from None
