"""What a user types to name an image, as in containers-transports(5), plus paths of disk images.

A reference is only a name. :mod:`certify.images.candidate` resolves it, once, to a digest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from certify.errors import BadReference

#: Transports of containers-transports(5) that certify reads, and what may follow the colon.
SHAPES = {
    "docker-daemon": "docker-daemon:NAME[:TAG] or docker-daemon:sha256:ID",
    "oci": "oci:DIR[:TAG]",
    "oci-archive": "oci-archive:FILE[:TAG]",
    "docker-archive": "docker-archive:FILE[:NAME:TAG]",
    "docker": "docker://REGISTRY/REPO[:TAG|@sha256:DIGEST]",
    "disk": "PATH.qcow2 (.raw .img .vhd .vhdx .vmdk, each also .gz .xz .zst .bz2)",
}
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_DISK = re.compile(r"\.(qcow2|raw|img|vhdx?|vmdk)(\.(gz|xz|zst|bz2))?$", re.IGNORECASE)
_TAG = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*")
_HOST = re.compile(r"(?:[a-zA-Z0-9][a-zA-Z0-9.-]*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")


@dataclass(frozen=True)
class Reference:
    """One parsed reference.

    ``location`` is a repository name (``docker-daemon``, ``docker``: the latter with its registry host) or a path.
    At most one of ``tag`` and ``digest`` (``sha256:<hex>``) is set.
    """

    transport: str
    location: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        if self.transport == "disk":
            return self.location
        head = f"docker://{self.location}" if self.transport == "docker" else f"{self.transport}:{self.location}"
        if self.transport == "docker-daemon" and not self.location:
            return f"docker-daemon:{self.digest}"
        return f"{head}@{self.digest}" if self.digest else f"{head}:{self.tag}" if self.tag else head

    @property
    def short(self) -> str:
        """A few characters: ``base:12`` for ``docker-daemon:team/base:12``."""
        suffix = self.tag or (self.digest or "").removeprefix("sha256:")[:12]
        return f"{self.name}:{suffix}" if suffix else self.name

    @property
    def name(self) -> str:
        """What it is an image of, whatever its tag: ``base`` for ``docker-daemon:team/base:12``."""
        return Path(self.location).name or "image"


def parse(text: str) -> Reference:
    """Read one reference.

    A bare ``name:tag`` that is no file means ``docker-daemon:name:tag``.

    Raises:
        BadReference: unknown transport (with the nearest right one), or a name, tag or digest out of form.
    """
    transport, colon, rest = text.partition(":")
    if "\0" in text or not text.strip():
        raise BadReference(f"reference {text!r}: empty or not text", "name an image, e.g. docker-daemon:app:1.2")
    if colon and transport in SHAPES and transport != "disk":
        return _parse_known(transport, rest, text)
    if _DISK.search(text):
        return Reference("disk", text)
    if rest.startswith("//") or (colon and re.fullmatch(r"[a-z]+-[a-z]+", transport) and ":" in rest):
        near = get_close_matches(transport, SHAPES, 1)
        hint = f"did you mean {near[0]}:?" if near else "known: " + ", ".join(k for k in SHAPES if k != "disk")
        raise BadReference(f"reference {text!r}: unknown transport {transport!r}", hint)
    if _exists(text):
        raise BadReference(
            f"reference {text!r}: a file, but not a known disk image",
            "put its transport before it: oci-archive:, docker-archive: or oci: for a directory",
        )
    return _daemon(text, text)


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # longer than any name, or no name at all
        return False


def _parse_known(transport: str, rest: str, text: str) -> Reference:
    if not rest.removeprefix("//"):
        raise BadReference(f"reference {text!r}: nothing after {transport}:", f"write {SHAPES[transport]}")
    if transport == "docker-daemon":
        return _daemon(rest, text)
    if transport == "docker":
        if not rest.startswith("//"):
            raise BadReference(f"reference {text!r}: docker: needs two slashes", f"write {SHAPES['docker']}")
        return _registry(rest[2:], text)
    path, _, tag = rest.partition(":")
    if not path:
        raise BadReference(f"reference {text!r}: no path before the tag", f"write {SHAPES[transport]}")
    return Reference(transport, path, tag=tag or None)


def _split(name: str, text: str) -> tuple[str, str | None, str | None]:
    """``repo[:tag][@digest]`` → repository, tag, digest; a digest wins over a tag, as in the distribution spec."""
    name, at, digest = name.partition("@")
    if at and not DIGEST.fullmatch(digest):
        raise BadReference(f"reference {text!r}: {digest!r} is no digest", "write @sha256: and 64 hex digits")
    head, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        head, tag = name, ""
    elif not _TAG.fullmatch(tag):
        raise BadReference(
            f"reference {text!r}: {tag!r} is no tag", "a tag has letters, digits, '_', '.', '-'; 128 at most"
        )
    return head, None if digest else tag or None, digest or None


def _daemon(rest: str, text: str) -> Reference:
    if DIGEST.fullmatch(rest):
        return Reference("docker-daemon", "", digest=rest)
    name, tag, digest = _split(rest, text)
    host, slash, path = name.partition("/")
    repository = path if slash and ("." in host or ":" in host or host == "localhost") else name
    if not _REPOSITORY.fullmatch(repository):
        hint = "names are lower case: letters, digits, '.', '_', '-', '/'" if name else "a tag needs a name before it"
        raise BadReference(f"reference {text!r}: {name!r} is no image name", hint)
    return Reference("docker-daemon", name, tag or (None if digest else "latest"), digest)


def _registry(rest: str, text: str) -> Reference:
    name, tag, digest = _split(rest, text)
    host, slash, path = name.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, path = "docker.io", name if slash else f"library/{name}"
    if not _HOST.fullmatch(host) or not _REPOSITORY.fullmatch(path):
        raise BadReference(f"reference {text!r}: {name!r} is no repository", f"write {SHAPES['docker']}")
    return Reference("docker", f"{host}/{path}", tag or (None if digest else "latest"), digest)
