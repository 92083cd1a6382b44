"""The pull half of the OCI distribution specification 1.1 (sections "Pull", "Authentication" as registries do it).

Plain HTTP is spoken to loopback addresses only. Credentials come from docker's own configuration. Redirects to blob
stores are followed without the registry's credentials (requests drops them across hosts).
"""

from __future__ import annotations

import ipaddress
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from certify.errors import EngineUnavailable, ImageInvalid, ImageNotFound
from certify.images.candidate import MAX_DOCUMENT, ImageSource, Layer, digest_of, parse_document
from certify.images.oci import INDEX_TYPES, MANIFEST_TYPES, PIECE, check_blob, resolve_manifest
from certify.images.reference import Reference
from certify.images.rootfs import LayeredSource
from certify.logs import responses

_LOG = logging.getLogger(__name__)
_ACCEPT = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))
_TIMEOUT = (10, 30)
_TOTAL = 60  # seconds for a head, or for a small document
_SLOWEST = 65536  # bytes per second that a blob must come with at least


class RegistryTransport:
    """Opens ``docker://`` references."""

    scheme = "docker"

    def open(self, reference: Reference) -> ImageSource:
        host, _, repository = reference.location.partition("/")
        registry = Registry(host, repository, str(reference))
        raw, media_type = registry.manifest(reference.digest or reference.tag or "latest")
        digest = digest_of(raw)
        if reference.digest:
            check_blob(raw, reference.digest, str(reference))
        kept = {digest: raw}

        def fetch(descriptor: dict[str, Any]) -> bytes:
            wanted = descriptor["digest"]
            if wanted not in kept:
                is_manifest = descriptor.get("mediaType") in (*MANIFEST_TYPES, *INDEX_TYPES)
                kept[wanted] = registry.manifest(wanted)[0] if is_manifest else registry.document(wanted)
                check_blob(kept[wanted], wanted, str(reference))
            return kept[wanted]

        candidate, config = resolve_manifest(reference, {"digest": digest, "mediaType": media_type}, fetch)
        return RegistrySource(registry, candidate, config)


class RegistrySource(LayeredSource):
    """One image in a registry."""

    def __init__(self, registry: Registry, candidate: Any, config: bytes) -> None:
        self.candidate = candidate
        self._registry = registry
        self._config = config

    def config_bytes(self) -> bytes:
        return self._config

    def layers(self) -> tuple[Layer, ...]:
        layers: tuple[Layer, ...] = self.candidate.layers
        return layers

    def blob(self, layer: Layer) -> Iterator[bytes]:
        return self._registry.pieces(layer.digest, layer.size)


class Registry:
    """One repository of one registry."""

    def __init__(self, host: str, repository: str, what: str) -> None:
        self._what = what
        self._host = host
        address = "registry-1.docker.io" if host == "docker.io" else host
        self._base = f"{'http' if _is_loopback(host) else 'https'}://{address}/v2/{repository}"
        self._session = requests.Session()
        self._session.hooks["response"].append(responses(_LOG))
        self._scope = f"repository:{repository}:pull"

    def manifest(self, name: str) -> tuple[bytes, str]:
        """A manifest's or index's bytes and media type, by tag or digest."""
        response = self._get(f"{self._base}/manifests/{name}", {"Accept": _ACCEPT})
        return self._bounded(response), response.headers.get("Content-Type", "").partition(";")[0]

    def document(self, digest: str) -> bytes:
        """A small blob's bytes."""
        return self._bounded(self._get(f"{self._base}/blobs/{digest}", {}))

    def pieces(self, digest: str, size: int) -> Iterator[bytes]:
        """A blob's bytes in pieces. One of ``size`` bytes may take as long as the slowest usable line does."""
        response = self._get(f"{self._base}/blobs/{digest}", {"Accept-Encoding": "identity"})
        yield from self._body(response, _TOTAL + size / _SLOWEST)

    def _bounded(self, response: requests.Response) -> bytes:
        data = b""
        for piece in self._body(response, _TOTAL):
            data += piece
            if len(data) > MAX_DOCUMENT:
                raise ImageInvalid(f"{self._what}: a manifest larger than {MAX_DOCUMENT} bytes", "do not use it")
        return data

    def _body(self, response: requests.Response, seconds: float) -> Iterator[bytes]:
        """What arrives, as it arrives, for so long at the most: a byte now and then is no answer."""
        deadline = time.monotonic() + seconds
        try:
            while piece := response.raw.read1(PIECE, decode_content=True):
                if time.monotonic() > deadline:
                    raise EngineUnavailable(
                        f"{self._what}: the registry is too slow: not done in {seconds:.0f} s", "try again"
                    )
                yield piece
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise EngineUnavailable(f"{self._what}: the registry broke off: {error}", "try again") from None
        finally:
            response.close()

    def _get(self, url: str, headers: dict[str, str]) -> requests.Response:
        try:
            response = self._within(lambda: self._session.get(url, headers=headers, stream=True, timeout=_TIMEOUT))
            if response.status_code == 401:
                self._authenticate(response)
                response = self._within(lambda: self._session.get(url, headers=headers, stream=True, timeout=_TIMEOUT))
        except requests.exceptions.RequestException as error:
            raise EngineUnavailable(
                f"{self._what}: the registry {self._host} does not answer: {error}", "check the name and that it runs"
            ) from None
        if response.status_code == 404:
            raise ImageNotFound(f"{self._what}: the registry has no such image", "check repository and tag")
        if response.status_code in (401, 403):
            raise ImageNotFound(f"{self._what}: the registry refuses access", f"docker login {self._host}")
        if not response.ok:
            raise EngineUnavailable(f"{self._what}: the registry answers {response.status_code}", "try again later")
        return response

    def _authenticate(self, response: requests.Response) -> None:
        """Basic, or a bearer token from the realm that the challenge names (distribution "token" authentication)."""
        credentials = _credentials(self._host)
        challenge = response.headers.get("WWW-Authenticate", "")
        if challenge.lower().startswith("basic") and credentials:
            self._session.auth = credentials
        if not challenge.lower().startswith("bearer"):
            return
        fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        asked = {"service": fields.get("service", ""), "scope": fields.get("scope", self._scope)}
        realm = fields.get("realm", "")
        if not self._may_have_credentials(realm):
            raise ImageInvalid(f"{self._what}: the registry sends credentials to {realm[:80]!r}", "do not use it")
        ask = {"params": asked, "auth": credentials, "timeout": _TIMEOUT, "stream": True}
        answer = self._within(lambda: requests.get(realm, **ask))  # type: ignore[arg-type]
        token = parse_document(self._bounded(answer), f"{self._what}: token") if answer.ok else {}
        self._session.headers["Authorization"] = f"Bearer {token.get('token') or token.get('access_token') or ''}"

    def _may_have_credentials(self, realm: str) -> bool:
        """Whether a token service is asked over TLS, or is the registry itself."""
        try:
            asked, mine = urlsplit(realm), urlsplit(self._base)
            same = (asked.scheme, asked.hostname, asked.port) == (mine.scheme, mine.hostname, mine.port)
        except ValueError:
            return False
        return asked.username is None and bool(asked.hostname) and (asked.scheme == "https" or same)

    def _within(self, ask: Callable[[], requests.Response]) -> requests.Response:
        """The answer's head, within the total time; a server that sends a byte now and then is left."""
        waiting: Future[requests.Response] = Future()

        def run() -> None:
            try:
                waiting.set_result(ask())
            except Exception as error:  # noqa: BLE001 - handed to whoever waits
                waiting.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        try:
            return waiting.result(_TOTAL)
        except TimeoutError:
            raise EngineUnavailable(
                f"{self._what}: the registry {self._host} does not answer within {_TOTAL} s", "try again"
            ) from None


def _credentials(host: str) -> tuple[str, str] | None:
    from docker.auth import load_config, resolve_authconfig

    found: dict[str, Any] | None = resolve_authconfig(load_config(), registry=host)
    return (found["username"], found["password"]) if found and found.get("username") else None


def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
