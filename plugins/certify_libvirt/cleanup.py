"""What killed runs left: guests of dead owners, their sockets and disks, half-made files of the store."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt

from certify.config import Config
from certify.errors import EngineUnavailable
from certify.images.store import Store
from certify.waiting import until
from certify_libvirt.domain import NODE_NAMESPACE
from certify_libvirt.hypervisor import OWNER_FILE, connect, embedded_roots, gone, marks_of, translated
from certify_libvirt.pool_disks import node_volumes, remove_volumes
from certify_libvirt.settings import VmSettings

_HOUR = 3600.0


def collect(config: Config, is_alive: Callable[[str], bool], dry_run: bool) -> Iterator[str]:
    """Remove them and yield a line for each. Only what carries certify's marks is ever looked at."""
    store = Store(Path(config.images.store))
    for root in embedded_roots():
        with suppress(OSError):  # another user's, or gone meanwhile
            if not is_alive((root / OWNER_FILE).read_text()):
                yield from _remove_root(root, dry_run)
    yield from _remove_files(store, dry_run)
    if config.of_platform("vm", VmSettings).uri != "embed":
        try:
            yield from _remove_domains(config, store, is_alive, dry_run)
        except EngineUnavailable as error:
            yield f"libvirt: not looked at: {error.message}"


def _remove_root(root: Path, dry_run: bool) -> Iterator[str]:
    """An embedded driver's directory, and every QEMU that was started from it."""
    for pid in _guests(root):
        yield f"virtual machine (pid {pid})"
        if not dry_run:
            _kill(pid)
    yield f"directory {root}"
    if not dry_run:
        shutil.rmtree(root, ignore_errors=True)


def _guests(root: Path) -> list[int]:
    """QEMU processes whose command line names a socket below ``root``: a pid file could name anybody by now."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = path.read_bytes()
            if b"qemu-system" in line.split(b"\0")[0] and f"{root}/".encode() in line:
                found.append(int(path.parent.name))
    return found


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}").exists(), 5, 0.02)


def _remove_files(store: Store, dry_run: bool) -> Iterator[str]:
    """Disks of nodes that no directory claims any more, and what was being written when a process died."""
    claimed = {path.name for root in embedded_roots() for path in root.iterdir()}
    left = [path for path in store.folder("nodes").iterdir() if path.name not in claimed]
    left += [path for path in store.folder("incoming").iterdir() if time.time() - path.stat().st_mtime > _HOUR]
    for path in left:
        yield f"disks {path}"
        if not dry_run:
            shutil.rmtree(path, ignore_errors=True)


def _remove_domains(config: Config, store: Store, is_alive: Callable[[str], bool], dry_run: bool) -> Iterator[str]:
    connection = connect(config.of_platform("vm", VmSettings).uri, store).connection
    with translated():
        domains = connection.listAllDomains(0)
    for domain in domains:
        owner = marks_of(domain, NODE_NAMESPACE).get("owner")
        if owner is None or is_alive(owner):
            continue
        yield f"virtual machine {domain.name()}"
        if not dry_run:
            _remove_domain(connection, domain)


def _remove_domain(connection: Any, domain: Any) -> None:
    try:
        disks = node_volumes(domain)
        domain.destroy()
    except libvirt.libvirtError as error:
        if gone(error):
            return
        with translated():
            raise
    remove_volumes(connection, disks)
