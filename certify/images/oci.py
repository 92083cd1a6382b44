"""OCI layouts, OCI archives and docker archives, read where they lie: nothing is extracted.

Implements OCI image-spec 1.1 (image-layout.md, image-index.md, manifest.md) and the archive of ``docker save``.
Archives are hostile: only regular members with plain relative names count, and every blob is checked by digest.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol, cast

from certify.errors import DigestMismatch, ImageInvalid, ImageNotFound, WrongPlatform
from certify.images.candidate import (
    MAX_DOCUMENT,
    Candidate,
    ImageSource,
    Layer,
    digest_of,
    parse_config,
    parse_document,
    this_architecture,
)
from certify.images.reference import DIGEST, Reference
from certify.images.rootfs import LayeredSource
from certify.images.tar_headers import require_plain

PIECE = 1024 * 1024
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_REF_NAME = "org.opencontainers.image.ref.name"
_MAX_MEMBERS = 100_000


class Files(Protocol):
    """Named byte strings: a directory or an archive."""

    def read(self, name: str) -> bytes: ...
    def pieces(self, name: str) -> Iterator[bytes]: ...
    def size(self, name: str) -> int: ...


class Directory:
    """Files below one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        if not root.is_dir():
            raise ImageNotFound(
                f"oci:{root}: no such directory", "an OCI layout is a directory with an oci-layout file"
            )

    def size(self, name: str) -> int:
        return self._path(name).stat().st_size

    def read(self, name: str) -> bytes:
        with self._path(name).open("rb") as file:
            return file.read(MAX_DOCUMENT + 1)

    def pieces(self, name: str) -> Iterator[bytes]:
        with self._path(name).open("rb") as file:
            while piece := file.read(PIECE):
                yield piece

    def _path(self, name: str) -> Path:
        path = self._root / name
        if not path.is_file() or not path.resolve().is_relative_to(self._root.resolve()):
            raise ImageInvalid(f"{self._root}: {name} is missing", "the layout is incomplete; copy it again")
        return path


def _unpacking(path: Path) -> BinaryIO:
    """A file's bytes, unpacked where they are packed."""
    with path.open("rb") as file:
        first = file.read(6)
    if first.startswith(b"\x1f\x8b"):
        return cast("BinaryIO", gzip.open(path))
    if first.startswith(b"BZh"):
        return cast("BinaryIO", bz2.open(path))
    return cast("BinaryIO", lzma.open(path)) if first == b"\xfd7zXZ\0" else path.open("rb")


class Archive:
    """Regular members of one tar file, plain or compressed. Unsafe names and links are refused, not skipped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.is_file():
            raise ImageNotFound(f"{path}: no such file", "check the path after the transport")
        try:
            with _unpacking(path) as plain:
                require_plain(plain, str(path))
            with tarfile.open(path) as tar:
                self._members = dict(self._index(tar))
        except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise ImageInvalid(
                f"{path}: not a whole tar archive ({error})", "it is cut or damaged; copy it again"
            ) from None

    def _index(self, tar: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
        for count, member in enumerate(tar):
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise ImageInvalid(f"{self._path}: member {member.name!r} leaves the archive", "do not use this file")
            if member.issym() or member.islnk():
                self._check_link(member)
            elif not (member.isreg() or member.isdir()):
                raise ImageInvalid(f"{self._path}: member {member.name!r} is a device", "do not use this file")
            if count > _MAX_MEMBERS:
                raise ImageInvalid(f"{self._path}: more than {_MAX_MEMBERS} members", "no real image has that many")
            yield str(name), member

    def _check_link(self, member: tarfile.TarInfo) -> None:
        """``docker save`` links equal layers to each other inside the archive; any other link is refused."""
        base = PurePosixPath(member.name).parent if member.issym() else PurePosixPath()
        depth = 0
        for part in (base / member.linkname).parts:
            depth += -1 if part == ".." else 1
            if depth < 0 or part == "/":
                raise ImageInvalid(
                    f"{self._path}: link {member.name!r} points outside the archive", "do not use this file"
                )

    def size(self, name: str) -> int:
        return self._file(name).size

    def read(self, name: str) -> bytes:
        member = self._file(name)
        if member.size > MAX_DOCUMENT:
            raise ImageInvalid(f"{self._path}: {name} is {member.size} bytes", "no real image document is that large")
        return b"".join(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        member = self._file(name)
        with tarfile.open(self._path) as tar:  # a handle of its own: several readers may run at once
            file = tar.extractfile(member)
            if file is None:
                raise ImageInvalid(f"{self._path}: {name} is no regular file", "do not use this file")
            try:
                while piece := file.read(PIECE):
                    yield piece
            except (tarfile.TarError, EOFError, OSError) as error:
                raise ImageInvalid(f"{self._path}: {name}: {error}", "the archive is cut; copy it again") from None

    def _file(self, name: str) -> tarfile.TarInfo:
        for _ in range(8):
            member = self._members.get(str(PurePosixPath(name)))
            if member is None:
                raise ImageInvalid(
                    f"{self._path}: {name} is missing", "the archive is cut or incomplete; copy it again"
                )
            if member.isreg():
                return member
            base = PurePosixPath(member.name).parent if member.issym() else PurePosixPath()
            name = _normal(base / member.linkname)
        raise ImageInvalid(f"{self._path}: {name} is a loop of links", "do not use this file")


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


class FileSource(LayeredSource):
    """An image whose blobs are named files."""

    def __init__(self, files: Files, candidate: Candidate, config_bytes: bytes, names: dict[str, str]) -> None:
        self.candidate = candidate
        self._config_bytes = config_bytes
        self._files = files
        self._names = names

    def config_bytes(self) -> bytes:
        return self._config_bytes

    def layers(self) -> tuple[Layer, ...]:
        return self.candidate.layers

    def blob(self, layer: Layer) -> Iterator[bytes]:
        return self._files.pieces(self._names[layer.digest])


class LayoutTransport:
    """``oci:`` and ``oci-archive:`` (image-layout.md)."""

    def __init__(self, scheme: str, opener: type[Directory] | type[Archive]) -> None:
        self.scheme = scheme
        self._opener = opener

    def open(self, reference: Reference) -> ImageSource:
        files = self._opener(Path(reference.location))
        what = str(reference)
        layout = parse_document(files.read("oci-layout"), f"{what}: oci-layout")
        if layout.get("imageLayoutVersion") != "1.0.0":
            raise ImageInvalid(f"{what}: layout version {layout.get('imageLayoutVersion')!r}", "certify reads 1.0.0")
        index = parse_document(files.read("index.json"), f"{what}: index.json")
        descriptor = _by_tag(descriptors(index, "manifests", what), reference)

        def fetch(wanted: dict[str, Any]) -> bytes:
            raw = files.read(_blob_name(wanted["digest"]))
            check_blob(raw, wanted["digest"], what)
            return raw

        candidate, config = resolve_manifest(reference, descriptor, fetch)
        for layer in candidate.layers:
            if files.size(_blob_name(layer.digest)) != layer.size:
                raise DigestMismatch(f"{what}: layer {layer.digest} has the wrong length", "copy the image again")
        return FileSource(files, candidate, config, {x.digest: _blob_name(x.digest) for x in candidate.layers})


class DockerArchiveTransport:
    """``docker-archive:``: the tar of ``docker save``. No manifest digest exists in it: the config's is the identity."""

    scheme = "docker-archive"

    def open(self, reference: Reference) -> ImageSource:
        what = str(reference)
        files = Archive(Path(reference.location))
        entry = self._entry(files, reference)
        try:
            config_bytes, names = files.read(entry["Config"]), [str(name) for name in entry["Layers"]]
        except (KeyError, TypeError):
            raise ImageInvalid(f"{what}: manifest.json is malformed", "save the image again") from None
        document, config = parse_config(config_bytes, f"{what}: config")
        diff_ids = diff_ids_of(document, what)
        if len(diff_ids) != len(names):
            raise ImageInvalid(f"{what}: {len(names)} layers, but its config lists {len(diff_ids)}", "save it again")
        media = "application/vnd.docker.image.rootfs.diff.tar"
        digests = [_stored_digest(files, name, diff_id) for name, diff_id in zip(names, diff_ids, strict=True)]
        layers = tuple(Layer(d, files.size(n), media) for d, n in zip(digests, names, strict=True))
        digest = digest_of(config_bytes)
        candidate = Candidate(
            reference=reference,
            digest=digest,
            kind="oci",
            size=sum(x.size for x in layers),
            os=str(document.get("os", "")),
            architecture=str(document.get("architecture", "")),
            config_digest=digest,
            config=config,
            media_type="application/vnd.docker.container.image.v1+json",
            created=str(document.get("created") or ""),
            layers=layers,
            diff_ids=diff_ids,
        )
        return FileSource(files, candidate, config_bytes, dict(zip(digests, names, strict=True)))

    @staticmethod
    def _entry(files: Archive, reference: Reference) -> dict[str, Any]:
        import msgspec

        try:
            entries = msgspec.json.decode(files.read("manifest.json"), type=list[dict[str, Any]])
            tagged = [msgspec.convert(entry.get("RepoTags") or [], list[str]) for entry in entries]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ImageInvalid(f"{reference}: manifest.json: {error}", "save the image again") from None
        tags = [tag for names in tagged for tag in names]
        if reference.tag:
            entries = [entry for entry in entries if reference.tag in (entry.get("RepoTags") or ())]
        if len(entries) != 1:
            raise ImageNotFound(
                f"{reference}: {len(entries)} images match", f"name one after the file: {', '.join(tags) or 'untagged'}"
            )
        return entries[0]


def _stored_digest(files: Files, name: str, diff_id: str) -> str:
    """A layer's digest as it lies in the archive: its ``diff_id``, unless some tool has packed it there."""
    pieces = files.pieces(name)
    first = next(pieces, b"")
    if not first.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        return diff_id
    hasher = hashlib.sha256(first)
    for piece in pieces:
        hasher.update(piece)
    return f"sha256:{hasher.hexdigest()}"


def resolve_manifest(reference: Reference, descriptor: dict[str, Any], fetch: Any) -> tuple[Candidate, bytes]:
    """From the descriptor of a manifest or index to a candidate for this machine and its config bytes.

    ``fetch(descriptor)`` returns the verified bytes of one document. Follows one level of index, as images have.
    """
    what, index_digest = str(reference), ""
    document = parse_document(fetch(descriptor), f"{what}: manifest")
    if descriptor.get("mediaType") in INDEX_TYPES or "manifests" in document:
        index_digest = descriptor["digest"]
        descriptor = _for_this_machine(descriptors(document, "manifests", what), what)
        document = parse_document(fetch(descriptor), f"{what}: manifest")
    config_descriptor = descriptors({"config": [document.get("config")]}, "config", what)[0]
    layers = tuple(
        Layer(d["digest"], d["size"], str(d.get("mediaType", ""))) for d in descriptors(document, "layers", what)
    )
    config_bytes = fetch(config_descriptor)
    parsed, config = parse_config(config_bytes, f"{what}: config")
    return Candidate(
        reference=reference,
        digest=descriptor["digest"],
        kind="oci",
        size=sum(layer.size for layer in layers),
        os=str(parsed.get("os", "")),
        architecture=str(parsed.get("architecture", "")),
        config_digest=config_descriptor["digest"],
        config=config,
        media_type=str(document.get("mediaType") or descriptor.get("mediaType") or MANIFEST_TYPES[0]),
        created=str(parsed.get("created") or ""),
        index_digest=index_digest,
        layers=layers,
        diff_ids=diff_ids_of(parsed, what),
    ), config_bytes


def descriptors(document: dict[str, Any], key: str, what: str) -> list[dict[str, Any]]:
    """The list of descriptors under ``key`` (image-spec descriptor.md), each with a sound digest and size."""
    found = document.get(key)
    if not isinstance(found, list):
        raise ImageInvalid(f"{what}: no {key} in the manifest", "this is no image manifest")
    for item in found:
        sound = isinstance(item, dict) and isinstance(item.get("size"), int) and item["size"] >= 0
        sound = sound and all(isinstance(item.get(name) or {}, dict) for name in ("platform", "annotations"))
        if not sound or not DIGEST.fullmatch(str(item.get("digest"))):
            raise ImageInvalid(f"{what}: malformed descriptor in {key}", "certify reads sha256 descriptors only")
    return found


def check_blob(raw: bytes, digest: str, what: str) -> None:
    """Raise DigestMismatch unless ``raw`` has ``digest``."""
    if digest_of(raw) != digest:
        raise DigestMismatch(f"{what}: the bytes stored as {digest} are others", "the image was changed or damaged")


def diff_ids_of(config: dict[str, Any], what: str) -> tuple[str, ...]:
    """The config's uncompressed layer digests (image-spec config.md, ``rootfs.diff_ids``)."""
    rootfs = config.get("rootfs")
    ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(ids, list) or not all(isinstance(x, str) and DIGEST.fullmatch(x) for x in ids):
        raise ImageInvalid(f"{what}: the config lists no sound rootfs.diff_ids", "rebuild the image")
    return tuple(ids)


def _for_this_machine(found: list[dict[str, Any]], what: str) -> dict[str, Any]:
    wanted = this_architecture()
    offered = []
    for item in found:
        platform = item.get("platform") or {}
        if platform.get("os") == "linux" and platform.get("architecture") == wanted:
            return item
        offered.append(f"{platform.get('os')}/{platform.get('architecture')}")
    raise WrongPlatform(
        f"{what}: the index has no image for linux/{wanted}", f"it offers {', '.join(offered) or 'none'}"
    )


def _by_tag(found: list[dict[str, Any]], reference: Reference) -> dict[str, Any]:
    names = [str((item.get("annotations") or {}).get(_REF_NAME, "")) for item in found]
    matches = [item for item, name in zip(found, names, strict=True) if not reference.tag or name == reference.tag]
    if len(matches) != 1:
        raise ImageNotFound(
            f"{reference}: {len(matches)} images match", f"tags there: {', '.join(filter(None, names)) or 'none'}"
        )
    return matches[0]


def _blob_name(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    return f"blobs/{algorithm}/{value}"


def file_transports() -> list[LayoutTransport | DockerArchiveTransport]:
    """The transports that need nothing but files."""
    return [LayoutTransport("oci", Directory), LayoutTransport("oci-archive", Archive), DockerArchiveTransport()]
