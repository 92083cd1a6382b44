"""Memory snapshots: a guest booted once, and any number of forks of it.

While a snapshot is made, the guest's memory is a file that QEMU maps shared; saving then costs only the device state
(QEMU's ``x-ignore-shared`` migration capability). A fork maps the same file privately: it starts without reading it, and
the pages it does not write are the kernel's page cache, shared by all forks. Snapshots are kept in the store by what they
depend on, checked by digest once per process before use, and the longest unused ones go when the cache is full.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import libvirt_qemu
import msgspec

from certify.errors import BootFailed, EngineUnavailable
from certify.files import write_whole
from certify.images.store import PIECE, Store
from certify.locks import Held, hold, locked
from certify.waiting import until
from certify_libvirt.hypervisor import translated

_SECONDS = 30.0
_REMEDY = "remove the folder snapshots in images.store, or set vm.forks: false"
_BLOCK = 65536
_PARTS = ("ram", "device", "disk", "nvram")


@dataclass(frozen=True)
class Snapshot:
    """A guest at the moment it was ready. Its files are never written again."""

    folder: Path
    ready_seconds: float
    console: bytes

    @property
    def ram(self) -> Path:
        """The guest's memory."""
        return self.folder / "ram"

    @property
    def device(self) -> Path:
        """The state of its devices: QEMU's migration stream without the memory."""
        return self.folder / "device"

    @property
    def disk(self) -> Path:
        """Its disk: what it has written, over the frozen image."""
        return self.folder / "disk"


class SnapshotCache:
    """The snapshots of one store."""

    def __init__(self, store: Store, cap: int) -> None:
        self._folder = store.folder("snapshots")
        self._cap = cap

    @staticmethod
    def key(**depends: Any) -> str:
        """Name of the snapshot that depends on exactly these things."""
        return hashlib.sha256(msgspec.json.encode(depends, order="sorted")).hexdigest()[:32]

    def held(self, key: str) -> AbstractContextManager[None]:
        """Keep others from making the same snapshot meanwhile."""
        return locked(self._folder / f"{key}.lock")

    def find(self, key: str) -> Snapshot | None:
        """A whole snapshot, or None: one that is damaged is removed, and made anew by who asked."""
        folder = self._folder / key
        try:
            meta = msgspec.json.decode((folder / "meta.json").read_bytes(), type=dict[str, Any])
            if meta["digests"] != _digests(folder):
                shutil.rmtree(folder)
                return None
            os.utime(folder / "meta.json")
            return Snapshot(folder, meta["ready_seconds"], (folder / "console.log").read_bytes())
        except (OSError, msgspec.DecodeError, KeyError):
            shutil.rmtree(folder, ignore_errors=True)
            return None

    def begin(self, key: str) -> Path:
        """An empty folder to make a snapshot in."""
        folder = self._folder / f"{key}.partial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def finish(self, key: str, ready_seconds: float, console: bytes) -> Snapshot:
        """Keep what was made, and make room for it."""
        partial, folder = self._folder / f"{key}.partial", self._folder / key
        (partial / "console.log").write_bytes(console)
        meta = {"ready_seconds": ready_seconds, "digests": _digests(partial)}
        write_whole(partial / "meta.json", msgspec.json.encode(meta))
        partial.rename(folder)
        self._evict(key)
        return Snapshot(folder, ready_seconds, console)

    def _evict(self, keep: str) -> None:
        """Remove the longest unused ones that no process forks from, until the rest fits."""
        found = sorted((path.stat().st_mtime, path.parent) for path in self._folder.glob("*/meta.json"))
        used = {folder: sum(part.stat().st_blocks * 512 for part in folder.iterdir()) for _, folder in found}
        for _, folder in found:
            if sum(used.values()) <= self._cap:
                return
            alone = hold(folder / "in-use") if folder.name != keep else None
            if alone is not None:
                with alone:
                    shutil.rmtree(folder)
                del used[folder]


def in_use(snapshot: Snapshot) -> Held | None:
    """What keeps the snapshot from being evicted until it is released (or its process ends); None when it is being evicted."""
    return hold(snapshot.folder / "in-use", shared=True)


def _digests(folder: Path) -> dict[str, str]:
    return {name: _sparse_digest(folder / name) for name in _PARTS if (folder / name).exists()}


def _sparse_digest(path: Path) -> str:
    """Digest of a file's blocks that are not zero, and where they lie; holes cost nothing, and how they are kept is no matter."""
    size = path.stat().st_size
    hasher = hashlib.sha256(str(size).encode())
    with path.open("rb", buffering=0) as file:
        at = 0
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) // _BLOCK * _BLOCK
            except OSError:
                break  # only a hole is left
            until = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            until = min(size, -(-max(until, at + 1) // _BLOCK) * _BLOCK)
            file.seek(at)
            while at < until and (block := file.read(min(_BLOCK, until - at))):
                if block.count(0) != len(block):
                    hasher.update(at.to_bytes(8, "big") + block)
                at += len(block)
    return hasher.hexdigest()


def save(domain: Any, target: Path, socket_path: str) -> None:
    """Stop the guest and write its device state to ``target``; its memory is in its file. Raises EngineUnavailable."""
    with translated():
        domain.suspend()
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(socket_path)
        listener.listen(1)
        listener.settimeout(_SECONDS)
        _order(domain, "migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])
        _order(domain, "migrate-set-parameters", **{"max-bandwidth": 10 << 30})
        _order(domain, "migrate", uri=f"unix:{socket_path}")
        connection, _ = listener.accept()
        with connection, target.open("wb") as file:
            connection.settimeout(_SECONDS)
            while piece := connection.recv(PIECE):
                file.write(piece)
        _wait_migrated(domain)
    except OSError as error:
        raise EngineUnavailable(f"the memory snapshot could not be written: {error}", "is the disk full?") from None
    finally:
        listener.close()


def load(domain: Any, source: Path, socket_path: str) -> None:
    """Give a domain that was started with ``-incoming defer`` the state it goes on from. Raises BootFailed."""
    _order(domain, "migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])
    _order(domain, "migrate-incoming", uri=f"unix:{socket_path}")
    try:
        with socket.socket(socket.AF_UNIX) as pipe:
            pipe.settimeout(_SECONDS)
            pipe.connect(socket_path)
            pipe.sendall(source.read_bytes())
    except OSError as error:
        raise BootFailed(
            f"the memory snapshot was not taken: {error}",
            _REMEDY,
        ) from None
    _wait_migrated(domain)


def _wait_migrated(domain: Any) -> None:
    """Raise BootFailed when it did not end well, or at all. QEMU's monitor belongs to libvirt, and so do its events."""

    def status() -> str:
        return str(_order(domain, "query-migrate").get("status", "none"))

    ends = ("completed", "failed", "cancelled")
    ended = until(lambda: found if (found := status()) in ends else "", _SECONDS, 0.01)
    if ended != "completed":
        raise BootFailed(f"the memory snapshot: QEMU {'says ' + ended if ended else 'did not finish it'}", _REMEDY)


def _order(domain: Any, command: str, **arguments: Any) -> dict[str, Any]:
    """One command of the QEMU Machine Protocol (QMP)."""
    text = msgspec.json.encode({"execute": command, "arguments": arguments}).decode()
    with translated():
        answer = msgspec.json.decode(libvirt_qemu.qemuMonitorCommand(domain, text, 0), type=dict[str, Any])
    if "error" in answer:
        raise BootFailed(f"QEMU refuses {command}: {answer['error'].get('desc', '')[:200]}", "see `certify doctor`")
    found: dict[str, Any] = answer.get("return") or {}
    return found
