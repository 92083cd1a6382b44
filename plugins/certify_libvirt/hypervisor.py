"""A libvirt connection, and the one place where its errors become certify's.

``embed`` runs libvirt's QEMU driver in this process, below a directory of its own: no daemon, no configuration of the
machine is read or changed. libvirt allows one such directory per process.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import libvirt

from certify.errors import CertifyError, EngineUnavailable
from certify.images.store import Store
from certify.logs import timed
from certify.nodes.owner import this_process

_LOG = logging.getLogger(__name__)
ROOT_PREFIX = "certify-vm-"
OWNER_FILE = "owner"
_CONNECT_SECONDS = 60.0
_PROBED = "libvirt-cache"  # what libvirt learnt about QEMU; costs 4 s to learn anew


@dataclass(frozen=True)
class Hypervisor:
    """One open connection. ``root`` is the embedded driver's directory, None for a daemon's connection."""

    uri: str
    connection: Any
    root: Path | None

    @property
    def embedded(self) -> bool:
        """Whether QEMU's sockets and files are ours, on this machine."""
        return self.root is not None

    @property
    def host(self) -> str:
        """Where ports that its guests serve are reached from here."""
        return urlsplit(self.uri).hostname or "127.0.0.1"

    @property
    def listen(self) -> str:
        """The address of its own that guests' ports are put on: the loopback, unless it is another machine."""
        return "0.0.0.0" if urlsplit(self.uri).hostname else "127.0.0.1"

    @property
    def qemu_version(self) -> str:
        """QEMU's version, as the connection reports it."""
        with translated():
            number = self.connection.getVersion()
        return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"

    @property
    def libvirt_version(self) -> str:
        """libvirt's version, on the connection's side."""
        with translated():
            number = self.connection.getLibVersion()
        return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def connect(uri: str, store: Store) -> Hypervisor:
    """Open ``uri``: ``embed``, or a libvirt URI (``qemu:///system``, ``qemu+ssh://…``). Raises EngineUnavailable."""
    _start_events()
    if uri == "embed":
        return _embedded(store.root)
    with translated():
        connection = _opened(uri)
    if connection.getType() != "QEMU":
        raise EngineUnavailable(f"{uri}: a {connection.getType()} connection, not a QEMU one", "use a qemu URI")
    with suppress(libvirt.libvirtError):
        connection.setKeepAlive(5, 3)
    return Hypervisor(uri, connection, None)


def _opened(uri: str) -> Any:
    """Open a connection within a deadline: libvirt itself waits for ever for a server that accepts and says nothing."""
    answer: Future[Any] = Future()

    def attempt() -> None:
        try:
            answer.set_result(libvirt.open(uri))
        except libvirt.libvirtError as error:
            answer.set_exception(error)

    threading.Thread(target=attempt, name="certify-libvirt-connect", daemon=True).start()
    try:
        return answer.result(_CONNECT_SECONDS)
    except TimeoutError:
        raise EngineUnavailable(
            f"{uri}: no answer within {_CONNECT_SECONDS:.0f} s", "does `virsh -c URI version` answer?"
        ) from None


@contextmanager
def translated(failure: type[CertifyError] = EngineUnavailable) -> Iterator[None]:
    """libvirt's errors → ours. ``failure`` is what a refused operation becomes."""
    caller = sys._getframe(2).f_code.co_name  # behind contextlib's own frame
    try:
        with timed(_LOG, f"libvirt for {caller}"):
            yield
    except libvirt.libvirtError as error:
        code, text = error.get_error_code(), str(error.get_error_message() or error).splitlines()[-1][:300]
        if code in (
            libvirt.VIR_ERR_SYSTEM_ERROR,
            libvirt.VIR_ERR_RPC,
            libvirt.VIR_ERR_NO_CONNECT,
            libvirt.VIR_ERR_AUTH_FAILED,
        ):
            raise EngineUnavailable(f"libvirt: {text}", "see `certify doctor`") from None
        raise failure(f"libvirt: {text}", "see `certify doctor`") from None


def gone(error: libvirt.libvirtError) -> bool:
    """Whether an error says that the domain is no more."""
    return error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)


def marks_of(domain: Any, namespace: str) -> dict[str, str]:
    """What certify wrote into a domain under ``namespace``; empty when it wrote nothing, or the domain is no more."""
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, namespace, 0)
    except libvirt.libvirtError as error:
        if not gone(error) and error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN_METADATA:
            with translated():
                raise
        return {}
    try:
        return {node.tag.rpartition("}")[2]: node.text or "" for node in ElementTree.fromstring(text)}
    except ElementTree.ParseError:
        return {}  # not of our writing


def embedded_roots() -> list[Path]:
    """The directories of all embedded drivers of this machine's users that we may see, ours among them."""
    return sorted(Path(tempfile.gettempdir()).glob(f"{ROOT_PREFIX}*/"))


@lru_cache(maxsize=1)
def _start_events() -> None:
    """libvirt's event loop, once per process, in a thread that ends with it; its errors come as exceptions, not as text."""

    def run() -> None:
        while True:
            with suppress(libvirt.libvirtError):
                libvirt.virEventRunDefaultImpl()

    libvirt.registerErrorHandler(lambda *_: None, None)
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=run, name="certify-libvirt-events", daemon=True).start()


@lru_cache(maxsize=1)
def _embedded(store_root: Path) -> Hypervisor:
    root = Path(tempfile.mkdtemp(prefix=ROOT_PREFIX))
    (root / OWNER_FILE).write_text(this_process())
    probed = store_root / _PROBED
    if probed.is_dir():
        shutil.copytree(probed, root / "cache")
    (root / "etc").mkdir()
    user = f"+{os.getuid()}"
    (root / "etc/qemu.conf").write_text(
        'stdio_handler = "file"\nsecurity_driver = "none"\ndynamic_ownership = 0\nnamespaces = []\ncgroup_controllers = []\n'
        f'user = "{user}"\ngroup = "+{os.getgid()}"\nmax_core = 0\n'
    )
    pid = os.getpid()
    atexit.register(lambda: shutil.rmtree(root, ignore_errors=True) if os.getpid() == pid else None)
    with translated():
        return Hypervisor("embed", libvirt.open(f"qemu:///embed?root={root}"), root)


def remember_probes(hypervisor: Hypervisor, store: Store) -> None:
    """Keep what libvirt learnt about QEMU, so that the next process need not learn it."""
    source = (hypervisor.root or Path("/nonexistent")) / "cache"
    target = store.root / _PROBED
    known = {path.name for path in target.rglob("*.xml")}
    if any(path.name not in known for path in source.rglob("*.xml")):
        shutil.copytree(source, target, dirs_exist_ok=True)
