"""Small OCI layouts and archives, right and wrong, for tests."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

from certify.images.candidate import this_architecture

REF_NAME = "org.opencontainers.image.ref.name"


def blob(data: bytes) -> dict[str, Any]:
    return {"digest": "sha256:" + hashlib.sha256(data).hexdigest(), "size": len(data)}


def layer(content: bytes = b"hello\n", name: str = "hello.txt") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def image(
    architecture: str | None = None, content: bytes = b"hello\n", name: str = "hello.txt"
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The blobs of one image by digest, and its manifest's descriptor."""
    data = layer(content, name)
    config = {
        "architecture": architecture or this_architecture(),
        "os": "linux",
        "config": {"Cmd": ["/hello"], "User": "1000", "ExposedPorts": {"80/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": [blob(data)["digest"]]},
    }
    raw = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **blob(raw)},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **blob(data)}],
    }
    document = json.dumps(manifest).encode()
    blobs = {blob(x)["digest"]: x for x in (data, raw, document)}
    return blobs, {"mediaType": manifest["mediaType"], **blob(document)}


def index(descriptors: list[dict[str, Any]]) -> bytes:
    media = "application/vnd.oci.image.index.v1+json"
    return json.dumps({"schemaVersion": 2, "mediaType": media, "manifests": descriptors}).encode()


def layout(path: Path, blobs: dict[str, bytes], descriptors: list[dict[str, Any]]) -> Path:
    (path / "blobs" / "sha256").mkdir(parents=True)
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (path / "index.json").write_bytes(index(descriptors))
    for digest, data in blobs.items():
        (path / "blobs" / "sha256" / digest.removeprefix("sha256:")).write_bytes(data)
    return path


def simple_layout(path: Path) -> Path:
    blobs, descriptor = image()
    return layout(path, blobs, [{**descriptor, "annotations": {REF_NAME: "v1"}}])


def tar_of(path: Path, target: Path) -> Path:
    with tarfile.open(target, "w") as tar:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                tar.add(file, file.relative_to(path).as_posix())
    return target


def docker_archive(target: Path, *, extra: list[tarfile.TarInfo] = [], config: bytes | None = None) -> Path:
    blobs, descriptor = image()
    manifest = json.loads(blobs[descriptor["digest"]])
    raw = config or blobs[manifest["config"]["digest"]]
    data = blobs[manifest["layers"][0]["digest"]]
    listed = json.dumps([{"Config": "config.json", "RepoTags": ["app:1"], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(target, "w") as tar:
        for name, content in (("config.json", raw), ("layer.tar", data), ("manifest.json", listed)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in extra:
            tar.addfile(info)
    return target
