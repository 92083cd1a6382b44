"""Chunk manifests: every byte is covered once, holes and zeroes are the same, damage is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify.errors import ImageError
from certify_metal.host.chunks import BLOCK, CHUNK, NAME, ZERO, make_manifest, read_manifest


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(1, 5 * CHUNK),
    spots=st.lists(st.tuples(st.integers(0, 5 * CHUNK), st.binary(min_size=1, max_size=5000)), max_size=4),
)
def test_every_chunk_has_the_digest_of_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, size: int, spots: list[tuple[int, bytes]]
) -> None:
    disk = tmp_path_factory.mktemp("disk") / "disk"
    with disk.open("wb") as file:
        for at, data in spots:
            file.seek(min(at, size))
            file.write(data)
        file.truncate(size)
    manifest, index = make_manifest(disk, "sha256:00")
    whole = disk.read_bytes()
    pieces = [whole[at : at + CHUNK] for at in range(0, size, CHUNK)]
    assert manifest.chunks == [hashlib.sha256(p).hexdigest() if any(p) else ZERO for p in pieces]
    assert manifest.data_bytes == sum(len(piece) for piece in pieces if any(piece))
    assert read_manifest(manifest.encoded()) == manifest
    blocks = [piece[at : at + BLOCK] for piece in pieces if any(piece) for at in range(0, len(piece), BLOCK)]
    names = [hashlib.sha256(b).digest()[:NAME] if any(b) else bytes(NAME) for b in blocks]
    assert index == b"".join(names)
    assert manifest.blocks == hashlib.sha256(index).hexdigest()


def test_a_hole_and_written_zeroes_are_the_same(tmp_path: Path) -> None:
    sparse, full = tmp_path / "sparse", tmp_path / "full"
    with sparse.open("wb") as file:
        file.truncate(3 * CHUNK)
    full.write_bytes(bytes(3 * CHUNK))
    assert make_manifest(sparse, "a")[0].digest == make_manifest(full, "a")[0].digest


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"candidate":"a","size":5,"chunk_size":1,"chunks":[],"block_size":1,"blocks":"b"}',
        b'{"candidate":"a","size":5,"chunk_size":0,"chunks":["",""],"block_size":1,"blocks":"b"}',
    ],
)
def test_a_damaged_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="manifest is damaged"):
        read_manifest(data)


def test_an_empty_disk_is_refused(tmp_path: Path) -> None:
    (tmp_path / "disk").touch()
    with pytest.raises(ImageError, match="empty disk"):
        make_manifest(tmp_path / "disk", "a")
