"""A candidate: an image resolved to immutable bytes. Its digest is its only identity.

:class:`Candidate` is what the rest of certify works with; :class:`ImageSource` is how a transport hands over the
bytes. A source is untrusted: every blob is checked against its digest where it is read (:func:`verified`).
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import Struct

from certify.errors import DigestMismatch, ImageInvalid, WrongPlatform
from certify.images.reference import Reference

if TYPE_CHECKING:
    from certify.config import Images
    from certify.images.files import ImageFiles

#: Configs and manifests larger than this are refused (the distribution spec's advised limit for manifests).
MAX_DOCUMENT = 4 * 1024 * 1024
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True)
class Layer:
    """One layer blob: its digest, size in bytes and media type as the manifest gives them."""

    digest: str
    size: int
    media_type: str


@dataclass(frozen=True)
class ImageConfig:
    """What the image config (OCI image-spec, config.md) says about running it. Ports as ``8080/tcp``."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    workdir: str = ""
    stop_signal: str = ""
    healthcheck: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """What runs as process 1: entrypoint and cmd together."""
        return self.entrypoint + self.cmd


@dataclass(frozen=True)
class Candidate:
    """One image, resolved once.

    Attributes:
        reference: what the user typed, canonical.
        digest: its identity, ``sha256:<hex>``: the manifest's where there is one, else the config's.
        kind: ``oci`` or ``disk``.
        size: bytes, as stored by its source.
        config_digest: digest of the config bytes, which the docker engine calls the image ID; a disk's own digest.
        index_digest: the multi-arch index it was picked from, if any.
    """

    reference: Reference
    digest: str
    kind: str
    size: int
    os: str
    architecture: str
    config_digest: str
    config: ImageConfig = field(default_factory=ImageConfig)
    media_type: str = ""
    created: str = ""
    index_digest: str = ""
    layers: tuple[Layer, ...] = ()
    diff_ids: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """Name for check ids and file names."""
        return self.reference.short

    def to_json(self) -> dict[str, Any]:
        """The shape ``certify inspect --json`` prints and run.json keeps."""
        return {
            "reference": str(self.reference),
            "digest": self.digest,
            "kind": self.kind,
            "size": self.size,
            "os": self.os,
            "architecture": self.architecture,
            "mediaType": self.media_type,
            "configDigest": self.config_digest,
            "indexDigest": self.index_digest or None,
            "created": self.created or None,
            "layers": [{"digest": x.digest, "size": x.size, "mediaType": x.media_type} for x in self.layers],
            "config": {
                "entrypoint": list(self.config.entrypoint),
                "cmd": list(self.config.cmd),
                "user": self.config.user,
                "ports": list(self.config.ports),
                "volumes": list(self.config.volumes),
                "workdir": self.config.workdir,
                "stopSignal": self.config.stop_signal,
                "labels": dict(self.config.labels),
            },
        }


class ImageSource(Protocol):
    """One opened image of one transport. Bytes are handed over unchecked; callers verify."""

    candidate: Candidate

    def config_bytes(self) -> bytes:
        """The config exactly as stored; its digest is ``candidate.config_digest``."""
        ...

    def layers(self) -> tuple[Layer, ...]:
        """The layers in order, lowest first."""
        ...

    def blob(self, layer: Layer) -> Iterator[bytes]:
        """The layer's bytes in pieces."""
        ...

    def files(self, limits: Images) -> ImageFiles:
        """Its root filesystem, read on this host. Raises ImageError for one that cannot be read without booting."""
        ...

    def describe(self) -> dict[str, Any]:
        """What ``certify inspect`` says beyond the candidate; of a disk, what is on it. Raises ImageInvalid."""
        return {}


class Transport(Protocol):
    """Opens references of one scheme. Plugins give theirs through ``certify_transports``."""

    scheme: str

    def open(self, reference: Reference) -> ImageSource:
        """Resolve ``reference`` to one image for this machine. Raises ImageError or EngineUnavailable."""
        ...


def this_architecture() -> str:
    """This machine's architecture in Go's names, as image configs use them (``amd64``, ``arm64``)."""
    return go_architecture(platform.machine())


def go_architecture(machine: str) -> str:
    """The kernel's name of an architecture (``x86_64``) in Go's names."""
    return _MACHINES.get(machine, machine)


def require_platform(candidate: Candidate, architecture: str) -> None:
    """Raise WrongPlatform unless the candidate is for Linux on ``architecture``."""
    if candidate.os != "linux" or candidate.architecture != architecture:
        raise WrongPlatform(
            f"{candidate.reference} is built for {candidate.os}/{candidate.architecture}, not linux/{architecture}",
            "build it for this platform, or run certify on a machine of that one",
        )


def resource_uri(candidate: Candidate) -> str:
    """Where a deployer fetches exactly these bytes: the reference with its tag replaced by the digest."""
    reference = candidate.reference
    if reference.transport == "docker-daemon":
        return str(Reference("docker-daemon", "", digest=candidate.config_digest))
    if reference.transport == "docker":
        return str(Reference("docker", reference.location, digest=candidate.digest))
    return str(Reference(reference.transport, str(Path(reference.location).absolute()), tag=reference.tag))


def digest_of(data: bytes) -> str:
    """``sha256:<hex>`` of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def hex_of(digest: str) -> str:
    """The hex digits of ``sha256:<hex>``, as statements and file names want them."""
    return digest.removeprefix("sha256:")


def verified(pieces: Iterator[bytes], digest: str, size: int, what: str) -> Iterator[bytes]:
    """Pass ``pieces`` on, and raise DigestMismatch at the end unless they were exactly ``size`` bytes of ``digest``."""
    seen, hasher = 0, hashlib.sha256()
    for piece in pieces:
        seen += len(piece)
        if seen > size:
            break
        hasher.update(piece)
        yield piece
    if seen != size:
        raise DigestMismatch(
            f"{what}: {'more than ' if seen > size else ''}{seen} bytes where {size} are declared",
            "the image is cut or was changed; copy or push it again",
        )
    if "sha256:" + hasher.hexdigest() != digest:
        raise DigestMismatch(
            f"{what}: its bytes do not have the digest {digest}",
            "the image was changed or damaged; copy or push it again",
        )


def parse_config(raw: bytes, what: str) -> tuple[dict[str, Any], ImageConfig]:
    """Read an OCI image config. Returns the whole document and what certify uses of it. Raises ImageInvalid."""
    document = parse_document(raw, what)
    for name in ("os", "architecture", "created"):
        value = document.get(name) or ""
        if not isinstance(value, str) or len(value) > 100 or not value.isprintable():
            raise ImageInvalid(f"{what}: its {name} is no name", "do not use this image")
    try:
        return document, image_config(document.get("config") or document.get("Config") or {})
    except TypeError as error:
        raise ImageInvalid(f"{what}: the image config is malformed ({error})", "rebuild the image") from None


class _Healthcheck(Struct, rename="pascal"):
    test: list[str] | None = None


class _Config(Struct, rename="pascal"):
    """The ``config`` object (image-spec config.md), as far as it is used; the engine's ``inspect`` says the same."""

    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    user: str | None = None
    exposed_ports: dict[str, Any] | None = None
    volumes: dict[str, Any] | None = None
    env: list[str] | None = None
    labels: dict[str, str] | None = None
    working_dir: str | None = None
    stop_signal: str | None = None
    healthcheck: _Healthcheck | None = None


def image_config(inner: Any) -> ImageConfig:
    """What certify uses of a config's ``config`` object. Raises TypeError for a malformed one."""
    try:
        found = msgspec.convert(inner, _Config)
    except msgspec.ValidationError as error:
        raise TypeError(str(error)) from None
    return ImageConfig(
        entrypoint=tuple(found.entrypoint or ()),
        cmd=tuple(found.cmd or ()),
        user=found.user or "",
        ports=tuple(sorted(found.exposed_ports or ())),
        volumes=tuple(sorted(found.volumes or ())),
        env=tuple(found.env or ()),
        labels=tuple(sorted((found.labels or {}).items())),
        workdir=found.working_dir or "",
        stop_signal=found.stop_signal or "",
        healthcheck=tuple((found.healthcheck.test if found.healthcheck else None) or ()),
    )


def parse_document(raw: bytes, what: str) -> dict[str, Any]:
    """Read one JSON object of an untrusted image. Raises ImageInvalid."""
    if len(raw) > MAX_DOCUMENT:
        raise ImageInvalid(f"{what}: larger than {MAX_DOCUMENT} bytes", "no real image needs that; do not use it")
    try:
        return msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ImageInvalid(f"{what}: not a JSON object ({error})", "the image is cut or damaged") from None
