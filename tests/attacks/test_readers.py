"""Every reader of foreign bytes, fed with anything: only certify's own errors come out, in bounded time and memory."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner

from certify.config import Config, Fleet, Images
from certify.errors import CertifyError
from certify.evidence.bundle import Bundle
from certify.evidence.certificate import Certificate
from certify.gate.lock import read_lock
from certify.images.candidate import parse_config
from certify.images.layers import require_layers
from certify.images.oci import Archive, DockerArchiveTransport, LayoutTransport
from certify.images.reference import Reference, parse
from certify.images.rootfs import RootFilesystem
from certify.models import load
from certify.nodes.facts import parse_os_release, parse_sockets
from certify.trust.dsse import verify
from certify.trust.memory import VerifiersMemory
from certify.trust.pointer import decode
from certify.trust.published import writers_memory
from certify.trust.sealed import Seal
from tests.unit.images.imagefiles import simple_layout, tar_of
from tests.unit.samples import finished, statement_of

pytestmark = pytest.mark.deep
QUIETLY = settings(
    max_examples=60, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
KEY = CryptoSigner.generate_ed25519().public_key
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
#: Anything: noise, or JSON of any shape.
BYTES = st.binary(max_size=400) | JSON.map(lambda value: json.dumps(value).encode())


def only_ours(read: Callable[[], object]) -> None:
    try:
        read()
    except CertifyError:
        return


def into(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


READERS: dict[str, Callable[[Path, bytes], object]] = {
    "a reference": lambda folder, data: parse(data.decode("utf-8", "replace")),
    "certify.yaml": lambda folder, data: load(into(folder / "c.yaml", data), Config),
    "fleet.yaml": lambda folder, data: load(into(folder / "f.yaml", data), Fleet),
    "certify.lock": lambda folder, data: read_lock(into(folder / "certify.lock", data)),
    "an image config": lambda folder, data: parse_config(data, "x"),
    "run.json": lambda folder, data: Bundle(into(folder / "r" / "run.json", data).parent).read_run(),
    "outcomes.jsonl": lambda folder, data: Bundle(into(folder / "r" / "outcomes.jsonl", data).parent).outcomes(),
    "manifest.json": lambda folder, data: Bundle(into(folder / "m" / "manifest.json", data).parent).check_manifest(),
    "an envelope": lambda folder, data: verify(data, [KEY], "x"),
    "a pointer": lambda folder, data: decode(data),
    "a client's memory": lambda folder, data: VerifiersMemory(
        into(folder / "remembered.json", data).parent
    ).require_time(datetime.now(UTC)),
    "a writer's memory": lambda folder, data: writers_memory(into(folder / "seen.json", data).parent).read(),
    "a ledger's row": lambda folder, data: Seal(folder / "keys").open(data.decode("utf-8", "replace"), "x"),
    "a tar archive": lambda folder, data: Archive(into(folder / "a.tar", data)),
    "a docker archive": lambda folder, data: DockerArchiveTransport().open(
        Reference("docker-archive", str(into(folder / "d.tar", data)))
    ),
    "os-release": lambda folder, data: parse_os_release(data.decode("utf-8", "replace")),
    "a node's sockets": lambda folder, data: parse_sockets(data.decode("utf-8", "replace")),
}


@pytest.mark.parametrize("reader", READERS)
@QUIETLY
@given(data=BYTES)
def test_anything_at_all(reader: str, tmp_path: Path, data: bytes) -> None:
    only_ours(lambda: READERS[reader](tmp_path, data))


@QUIETLY
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.booleans())
def test_a_layout_with_a_wrong_byte_or_end(tmp_path: Path, at: int, byte: int, cut: bool) -> None:
    path = tmp_path / "layout"
    if not path.exists():
        simple_layout(path)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    file = files[at % len(files)]
    whole = file.read_bytes()
    place = at % len(whole)
    file.write_bytes(whole[:place] if cut else whole[:place] + bytes([byte]) + whole[place + 1 :])
    try:
        from certify.images.oci import Directory

        only_ours(lambda: _all(LayoutTransport("oci", Directory).open(Reference("oci", str(path)))))
    finally:
        file.write_bytes(whole)


def _all(source: Any) -> None:
    require_layers(source, Images())
    with RootFilesystem(source) as root:
        for file in root.listed():
            root.content(file.path)


@QUIETLY
@given(at=st.integers(0, 100_000), byte=st.integers(0, 255))
def test_an_archive_with_a_wrong_byte(tmp_path: Path, at: int, byte: int) -> None:
    path = tmp_path / "image.tar"
    if not path.exists():
        tar_of(simple_layout(tmp_path / "layout"), path)
    data = bytearray(path.read_bytes())
    data[at % len(data)] = byte
    only_ours(
        lambda: _all(
            LayoutTransport("oci-archive", Archive).open(
                Reference("oci-archive", str(into(tmp_path / "x.tar", bytes(data))))
            )
        )
    )


@QUIETLY
@given(at=st.integers(0, 100_000), byte=st.integers(0, 255), cut=st.booleans())
def test_a_layer_with_a_wrong_byte_or_end(tmp_path: Path, at: int, byte: int, cut: bool) -> None:
    from tests.attacks.test_images import opened, with_layer

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("etc/passwd")
        info.size = 3000
        tar.addfile(info, io.BytesIO(b"a" * 3000))
    packed = gzip.compress(buffer.getvalue(), mtime=0)
    place = at % len(packed)
    wrong = packed[:place] if cut else packed[:place] + bytes([byte]) + packed[place + 1 :]
    import hashlib
    import tempfile

    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    diff_id = "sha256:" + hashlib.sha256(buffer.getvalue()).hexdigest()
    only_ours(lambda: _all(opened(with_layer(folder / "layout", wrong, diff_id))))


@QUIETLY
@given(key=st.sampled_from(sorted(statement_of(finished())["predicate"])), value=JSON)
def test_a_certificate_that_says_anything(key: str, value: Any) -> None:
    document = statement_of(finished())
    document["predicate"][key] = value
    only_ours(lambda: Certificate("sha256:1", document))


@QUIETLY
@given(key=st.sampled_from(sorted(msgspec.to_builtins(finished()))), value=JSON)
def test_a_run_that_says_anything(tmp_path: Path, key: str, value: Any) -> None:
    document = msgspec.to_builtins(finished())
    document[key] = value
    path = into(tmp_path / "r" / "run.json", json.dumps(document).encode())
    only_ours(lambda: Bundle(path.parent).read_run().state)


@QUIETLY
@given(
    data=st.binary(max_size=2000),
    head=st.sampled_from([b"QFI\xfb\0\0\0\3", b"KDMV\1\0\0\0", b"conectix", b"vhdxfile", b""]),
)
def test_a_disk_that_is_anything(tmp_path: Path, data: bytes, head: bytes) -> None:
    from certify_disk.formats import unpack

    given_, disk = into(tmp_path / "given", head + data), tmp_path / "disk"
    only_ours(lambda: unpack(given_, disk, Images()))
