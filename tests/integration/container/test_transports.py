"""Every OCI transport leads to the same bytes: the image ID the engine computes is the config digest we resolved."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import docker
import pytest

from certify.config import Config
from certify.errors import CertifyError, EngineUnavailable, ImageNotFound
from certify.hooks import Plugins
from certify.images.pack import docker_archive
from certify.images.resolve import Resolver
from tests.integration.conftest import DEMO, MakeImage, Workspace, free_port
from tests.unit.images.imagefiles import REF_NAME, blob, layout, tar_of


@pytest.fixture
def small(make_image: MakeImage) -> str:
    files = {"/web": {"program": "web", "mode": "0755"}, "/unique": {"content": "transports"}}
    return make_image("transports", entrypoint=["/web", "8080", "1"], ports=["8080/tcp"], user="1000", files=files)


def resolver() -> Resolver:
    return Resolver(Plugins().transports(Config()))


def as_layout(reference: str, path: Path, *, gzip: bool = False) -> Path:
    """An OCI layout of an engine's image, with its config untouched."""
    source = resolver().open(reference)
    blobs, layers = {}, []
    for layer in source.layers():
        data = b"".join(source.blob(layer))
        media = "application/vnd.oci.image.layer.v1.tar"
        if gzip:
            data, media = (
                subprocess.run(["gzip", "-nc"], input=data, capture_output=True, check=True).stdout,
                media + "+gzip",
            )
        blobs[blob(data)["digest"]] = data
        layers.append({"mediaType": media, **blob(data)})
    config = source.config_bytes()
    media = "application/vnd.oci.image.manifest.v1+json"
    described = {"mediaType": "application/vnd.oci.image.config.v1+json", **blob(config)}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": media, "config": described, "layers": layers}).encode()
    blobs |= {blob(config)["digest"]: config, blob(manifest)["digest"]: manifest}
    return layout(path, blobs, [{"mediaType": media, **blob(manifest), "annotations": {REF_NAME: "v1"}}])


def test_the_config_is_kept_byte_for_byte(small: str) -> None:
    source = resolver().open(small)
    assert "sha256:" + hashlib.sha256(source.config_bytes()).hexdigest() == source.candidate.digest


@pytest.mark.parametrize("kind", ["oci", "oci-gzip", "oci-archive", "docker-archive", "docker"])
def test_what_boots_is_what_was_resolved(
    work: Workspace, small: str, engine: docker.DockerClient, registry: str, kind: str
) -> None:
    wanted = resolver().open(small).candidate
    if kind == "docker-archive":
        (work.path / "i.tar").write_bytes(b"".join(docker_archive(resolver().open(small), "app:1")))
        reference = f"docker-archive:{work.path}/i.tar"
    elif kind == "docker":
        name = f"{registry}/team/app"
        engine.api.tag(wanted.digest, name, "1")
        assert "error" not in engine.api.push(name, "1")
        engine.api.remove_image(f"{name}:1")
        reference = f"docker://{name}:1"
    else:
        folder = as_layout(small, work.path / "layout", gzip=kind == "oci-gzip")
        reference = (
            f"oci:{folder}:v1" if kind != "oci-archive" else f"oci-archive:{tar_of(folder, work.path / 'i.tar')}"
        )
    candidate = resolver().open(reference).candidate
    assert candidate.config_digest == wanted.digest
    assert candidate.diff_ids == wanted.diff_ids
    engine.images.remove(wanted.digest, force=True)
    work.write("test_t.py", "def test_t(node): assert node.read('/unique') == b'transports'\n")
    done = work.pytest("--image", reference, "test_t.py")
    assert done.status == 0, done.text
    assert work.last_run["candidates"][0]["digest"] == candidate.digest
    assert engine.images.get(wanted.digest).id == wanted.digest
    engine.api.tag(wanted.digest, "certify-demo", "test-transports")


def test_a_registry_by_tag_and_by_digest(small: str, engine: docker.DockerClient, registry: str) -> None:
    name = f"{registry}/by-digest"
    engine.api.tag(small.removeprefix("docker-daemon:"), name, "1")
    engine.api.push(name, "1")
    by_tag = resolver().open(f"docker://{name}:1").candidate
    by_digest = resolver().open(f"docker://{name}@{by_tag.digest}").candidate
    assert by_tag.digest == by_digest.digest
    with pytest.raises(ImageNotFound, match="no such image"):
        resolver().open(f"docker://{name}:2")
    with pytest.raises(ImageNotFound, match="no such image"):
        resolver().open(f"docker://{name}@sha256:{'0' * 64}")


def test_a_registry_that_is_not_there() -> None:
    with pytest.raises(EngineUnavailable, match="does not answer"):
        resolver().open(f"docker://127.0.0.1:{free_port()}/app:1")


def test_a_changed_blob_in_a_registry_is_noticed(
    work: Workspace, small: str, engine: docker.DockerClient, registry: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = f"{registry}/changed"
    engine.api.tag(small.removeprefix("docker-daemon:"), name, "1")
    engine.api.push(name, "1")
    engine.api.remove_image(f"{name}:1")
    candidate = resolver().open(f"docker://{name}:1").candidate
    stored = next(p for p in tmp_path_factory.getbasetemp().glob("registry*/data") if p.exists())
    data = (
        stored
        / "docker/registry/v2/blobs/sha256"
        / candidate.layers[0].digest[7:9]
        / candidate.layers[0].digest[7:]
        / "data"
    )
    original = data.read_bytes()
    try:
        data.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        engine.images.remove(candidate.config_digest, force=True)
        work.write("test_t.py", "def test_t(node): pass\n")
        done = work.pytest("--image", f"docker://{name}:1", "test_t.py")
        assert done.status == 6, done.text
        assert "do not have the digest" in done.text
    finally:
        data.write_bytes(original)


@pytest.mark.parametrize("transport", ["oci", "docker-archive", "docker-daemon", "docker"])
def test_inspect_prints_what_it_is(
    work: Workspace, small: str, engine: docker.DockerClient, registry: str, transport: str
) -> None:
    reference = small
    if transport == "oci":
        reference = f"oci:{as_layout(small, work.path / 'layout')}"
    elif transport == "docker-archive":
        (work.path / "i.tar").write_bytes(b"".join(docker_archive(resolver().open(small))))
        reference = f"docker-archive:{work.path}/i.tar"
    elif transport == "docker":
        engine.api.tag(small.removeprefix("docker-daemon:"), f"{registry}/inspect", "1")
        engine.api.push(f"{registry}/inspect", "1")
        reference = f"docker://{registry}/inspect:1"
    done = work.certify("inspect", reference, "--json")
    assert done.status == 0, done.text
    document = json.loads(done.out)
    assert document["configDigest"] == resolver().open(small).candidate.digest
    assert document["config"]["entrypoint"] == ["/web", "8080", "1"]
    assert document["config"]["ports"] == ["8080/tcp"]
    assert document["digest"] in work.certify("inspect", reference).out


def test_the_good_image_is_in_the_engine_as_built() -> None:
    try:
        candidate = resolver().open(DEMO + "good").candidate
    except CertifyError as error:
        pytest.fail(f"build the samples first (python -m tests.images): {error}")
    assert len(candidate.diff_ids) == 2
