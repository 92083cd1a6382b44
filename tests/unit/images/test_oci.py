"""Layouts and archives: read right, and refused with a reason when they are cut, changed or hostile."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certify.config import Images
from certify.errors import BadReference, DigestMismatch, ImageError, ImageInvalid, ImageNotFound, WrongPlatform
from certify.images.candidate import parse_config, this_architecture
from certify.images.layers import require_layers
from certify.images.pack import docker_archive as packed
from certify.images.resolve import Resolver
from tests.unit.images.imagefiles import REF_NAME, blob, docker_archive, image, index, layout, simple_layout, tar_of

RESOLVER = Resolver([])


def test_a_layout_is_read(tmp_path: Path) -> None:
    source = RESOLVER.open(f"oci:{simple_layout(tmp_path / 'i')}:v1")
    candidate = source.candidate
    assert candidate.kind == "oci"
    assert candidate.config.command == ("/hello",)
    assert candidate.config.ports == ("80/tcp",)
    assert blob(source.config_bytes())["digest"] == candidate.config_digest
    assert candidate.digest != candidate.config_digest


def test_an_archive_of_a_layout_is_the_same_image(tmp_path: Path) -> None:
    folder = simple_layout(tmp_path / "i")
    archive = tar_of(folder, tmp_path / "i.tar")
    assert RESOLVER.open(f"oci-archive:{archive}").candidate.digest == RESOLVER.open(f"oci:{folder}").candidate.digest


def test_a_docker_archive_is_identified_by_its_config(tmp_path: Path) -> None:
    source = RESOLVER.open(f"docker-archive:{docker_archive(tmp_path / 'a.tar')}")
    assert source.candidate.digest == source.candidate.config_digest == blob(source.config_bytes())["digest"]


def test_an_index_is_resolved_to_this_machine(tmp_path: Path) -> None:
    ours, mine = image()
    others, foreign = image("s390x")
    wanted = {**mine, "platform": {"os": "linux", "architecture": this_architecture()}}
    multi = index([{**foreign, "platform": {"os": "linux", "architecture": "s390x"}}, wanted])
    top = {"mediaType": "application/vnd.oci.image.index.v1+json", **blob(multi)}
    path = layout(tmp_path / "i", {**ours, **others, blob(multi)["digest"]: multi}, [top])
    candidate = RESOLVER.open(f"oci:{path}").candidate
    assert candidate.digest == mine["digest"]
    assert candidate.index_digest == blob(multi)["digest"]


def test_an_index_without_this_machine(tmp_path: Path) -> None:
    blobs, descriptor = image("s390x")
    multi = index([{**descriptor, "platform": {"os": "linux", "architecture": "s390x"}}])
    top = {"mediaType": "application/vnd.oci.image.index.v1+json", **blob(multi)}
    path = layout(tmp_path / "i", {**blobs, blob(multi)["digest"]: multi}, [top])
    with pytest.raises(WrongPlatform, match="no image for linux/") as caught:
        RESOLVER.open(f"oci:{path}")
    assert "linux/s390x" in caught.value.hint


def test_two_tags_must_be_told_apart(tmp_path: Path) -> None:
    blobs, first = image()
    more, second = image(content=b"other")
    tagged = [{**first, "annotations": {REF_NAME: "a"}}, {**second, "annotations": {REF_NAME: "b"}}]
    path = layout(tmp_path / "i", {**blobs, **more}, tagged)
    assert RESOLVER.open(f"oci:{path}:b").candidate.digest == second["digest"]
    with pytest.raises(ImageNotFound, match="2 images match") as caught:
        RESOLVER.open(f"oci:{path}")
    assert "a, b" in caught.value.hint
    with pytest.raises(ImageNotFound, match="0 images match"):
        RESOLVER.open(f"oci:{path}:c")


def test_a_changed_manifest_is_refused(tmp_path: Path) -> None:
    path = simple_layout(tmp_path / "i")
    descriptor = json.loads((path / "index.json").read_text())["manifests"][0]
    file = path / "blobs/sha256" / descriptor["digest"].removeprefix("sha256:")
    file.write_bytes(file.read_bytes().replace(b'"schemaVersion": 2', b'"schemaVersion": 3'))
    with pytest.raises(DigestMismatch):
        RESOLVER.open(f"oci:{path}")


def test_a_changed_layer_is_refused_while_it_is_read(tmp_path: Path) -> None:
    path = simple_layout(tmp_path / "i")
    layer = RESOLVER.open(f"oci:{path}").candidate.layers[0]
    file = path / "blobs/sha256" / layer.digest.removeprefix("sha256:")
    file.write_bytes(file.read_bytes().replace(b"hello\n", b"jello\n"))
    with pytest.raises(DigestMismatch, match="layer"):
        list(packed(RESOLVER.open(f"oci:{path}")))


def test_a_layer_of_the_wrong_length_is_refused(tmp_path: Path) -> None:
    path = simple_layout(tmp_path / "i")
    layer = RESOLVER.open(f"oci:{path}").candidate.layers[0]
    file = path / "blobs/sha256" / layer.digest.removeprefix("sha256:")
    file.write_bytes(file.read_bytes()[:-512])
    with pytest.raises(DigestMismatch, match="wrong length"):
        RESOLVER.open(f"oci:{path}")


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("info", "says"),
    [
        (member("../evil"), "leaves the archive"),
        (member("a/../../evil"), "leaves the archive"),
        (member("/etc/passwd"), "leaves the archive"),
        (member("l", tarfile.SYMTYPE, "/etc/passwd"), "points outside"),
        (member("l", tarfile.SYMTYPE, "../../etc/passwd"), "points outside"),
        (member("l", tarfile.LNKTYPE, "../x"), "points outside"),
        (member("dev", tarfile.CHRTYPE), "is a device"),
        (member("fifo", tarfile.FIFOTYPE), "is a device"),
    ],
)
def test_hostile_members_are_refused(tmp_path: Path, info: tarfile.TarInfo, says: str) -> None:
    path = docker_archive(tmp_path / "a.tar", extra=[info])
    with pytest.raises(ImageInvalid, match=says):
        RESOLVER.open(f"docker-archive:{path}")


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(member("manifest.json", tarfile.SYMTYPE, "other.json"))
        tar.addfile(member("other.json", tarfile.SYMTYPE, "manifest.json"))
    with pytest.raises(ImageInvalid, match="loop of links"):
        RESOLVER.open(f"docker-archive:{path}")


@pytest.mark.parametrize("keep", [0, 100, 513, 2000])
def test_a_cut_archive_is_refused(tmp_path: Path, keep: int) -> None:
    path = docker_archive(tmp_path / "a.tar")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ImageInvalid):
        RESOLVER.open(f"docker-archive:{path}")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFound, match="no such file"):
        RESOLVER.open(f"docker-archive:{tmp_path}/none.tar")
    with pytest.raises(ImageNotFound, match="no such directory"):
        RESOLVER.open(f"oci:{tmp_path}/none")
    with pytest.raises(BadReference, match="no installed plugin reads disk images"):
        RESOLVER.open("disk.qcow2")


def test_a_config_that_is_no_object(tmp_path: Path) -> None:
    with pytest.raises(ImageInvalid, match="not a JSON object"):
        RESOLVER.open(f"docker-archive:{docker_archive(tmp_path / 'a.tar', config=b'[]')}")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(at=st.integers(0, 9000), value=st.integers(0, 255))
def test_one_changed_byte_is_found_or_harmless(tmp_path: Path, at: int, value: int) -> None:
    """Whatever byte changes: the same image comes out, or a clear error."""
    path = tmp_path / "a.tar"
    if not (tmp_path / "good.tar").exists():
        docker_archive(tmp_path / "good.tar")
    good = (tmp_path / "good.tar").read_bytes()
    wanted = RESOLVER.open(f"docker-archive:{tmp_path / 'good.tar'}").candidate
    path.write_bytes(good[: at % len(good)] + bytes([value]) + good[at % len(good) + 1 :])
    try:
        source = RESOLVER.open(f"docker-archive:{path}")
        list(packed(source))
    except ImageError as error:
        assert error.message
    else:
        same_config = source.candidate.digest == wanted.digest
        assert source.candidate.diff_ids == wanted.diff_ids or not same_config


@pytest.mark.parametrize(
    "inner",
    [
        {"User": 5}, {"Entrypoint": [1, 2]}, {"Entrypoint": "sh"}, {"Env": {"A": "b"}}, {"Labels": {"a": 1}},
        {"ExposedPorts": ["80/tcp"]}, {"Healthcheck": ["CMD"]}, {"WorkingDir": {}}, [1], "x",
    ],
)  # fmt: skip
def test_a_config_of_other_types_is_refused(inner: object) -> None:
    with pytest.raises(ImageInvalid, match="malformed"):
        parse_config(json.dumps({"os": "linux", "config": inner}).encode(), "x")


@pytest.mark.parametrize("more", [{"annotations": ["x"]}, {"annotations": "x"}, {"platform": 5}])
def test_a_descriptor_of_other_types_is_refused(tmp_path: Path, more: dict[str, object]) -> None:
    blobs, descriptor = image()
    path = layout(tmp_path / "i", blobs, [{**descriptor, **more}])
    with pytest.raises(ImageInvalid, match="malformed descriptor"):
        RESOLVER.open(f"oci:{path}:v1")


def test_layers_that_a_tool_has_packed_in_a_docker_archive_are_read(tmp_path: Path) -> None:
    """crane and others write gzip where `docker save` writes plain tar."""
    plain = docker_archive(tmp_path / "a.tar")
    with tarfile.open(plain) as old, tarfile.open(tmp_path / "b.tar", "w") as new:
        [entry] = json.loads(old.extractfile("manifest.json").read())  # type: ignore[union-attr]
        for member in old:
            data = old.extractfile(member).read()  # type: ignore[union-attr]
            data = gzip.compress(data) if member.name in entry["Layers"] else data
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    source = RESOLVER.open(f"docker-archive:{tmp_path / 'b.tar'}")
    require_layers(source, Images())
    assert source.candidate.digest == RESOLVER.open(f"docker-archive:{plain}").candidate.digest


@pytest.mark.parametrize("packing", ["gz", "bz2", "xz"])
def test_a_packed_archive_with_an_endless_header_costs_no_memory(tmp_path: Path, packing: str) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = b"x", 3 * 1024**3
    with tarfile.open(tmp_path / "a.tar", f"w:{packing}") as tar:
        tar.fileobj.write(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024 * 1024))  # type: ignore[union-attr]
    (tmp_path / "a.tar").replace(tmp_path / "a")
    with pytest.raises(ImageInvalid, match="every reader reads alike"):
        RESOLVER.open(f"docker-archive:{tmp_path / 'a'}")
