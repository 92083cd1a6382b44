"""Disks in a libvirt storage pool: for hypervisors behind a daemon, on this host or another.

The candidate's disk is uploaded once per digest and stays; every node's overlay, seed and data disk goes with the node.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import libvirt

from certify.errors import EngineUnavailable, UsageError
from certify.images.candidate import ImageSource, hex_of
from certify.images.store import Store
from certify.nodes.platform import NodeSpec, Progress
from certify_libvirt.disks import LocalDisks, node_disk_size, node_seed, wants_seed
from certify_libvirt.domain import NodeFiles, Profile
from certify_libvirt.hypervisor import Hypervisor, translated
from certify_libvirt.settings import VmSettings
from certify_libvirt.snapshot import Snapshot

_PIECE = 1024 * 1024


class PoolDisks:
    """Implements :class:`certify_libvirt.disks.NodeDisks` on a storage pool."""

    def __init__(self, hypervisor: Hypervisor, store: Store, settings: VmSettings) -> None:
        self._connection = hypervisor.connection
        self._settings = settings
        self._local = LocalDisks(store, settings)
        with translated():
            names = [pool.name() for pool in self._connection.listAllStoragePools(0)]
            if settings.pool not in names:
                raise UsageError(
                    f"platforms.vm.pool: {hypervisor.uri} has no storage pool {settings.pool!r}",
                    f"it has: {', '.join(names) or 'none'}; make one with virsh pool-create-as",
                )
            self._pool = self._connection.storagePoolLookupByName(settings.pool)
            if not self._pool.isActive():
                self._pool.create()

    def base(self, source: ImageSource, progress: Progress) -> None:
        self._uploaded(source, progress)

    def kernel(self, source: ImageSource) -> tuple[str, str]:
        kernel, initrd = self._local.kernel(source)
        return tuple(self._upload_file(Path(p)) if p else "" for p in (kernel, initrd))  # type: ignore[return-value]

    def firmware(self, source: ImageSource) -> list[str]:
        return self._local.firmware(source)

    def user_data(self) -> bytes:
        return self._local.user_data()

    def make(self, source: ImageSource, folder: Path, profile: Profile, spec: NodeSpec) -> NodeFiles:
        base = self._local.disk(source)
        size = node_disk_size(base.virtual_size, self._settings)
        backing = (self._uploaded(source, lambda _: None), base.format)
        disk = self._volume(f"certify-{folder.name}-disk", size, "qcow2", backing)
        files = NodeFiles(disk=disk)
        if wants_seed(profile, self._settings):
            with tempfile.NamedTemporaryFile() as file:
                Path(file.name).write_bytes(node_seed(spec, self.user_data()))
                files = NodeFiles(disk=disk, seed=self._upload(Path(file.name), f"certify-{folder.name}-seed"))
        return files

    def fork(self, folder: Path, snapshot: Snapshot) -> NodeFiles:
        del folder, snapshot
        raise EngineUnavailable("memory snapshots need the embedded hypervisor", "platforms.vm.uri: embed")

    def remove(self, files: NodeFiles) -> None:
        remove_volumes(self._connection, [path for path in (files.disk, files.seed, files.data) if path])

    def _uploaded(self, source: ImageSource, progress: Progress) -> str:
        base = self._local.disk(source, progress)
        name = f"certify-base-{hex_of(source.candidate.digest)[:32]}"
        found = self._find(name)
        if found is not None:
            return found
        progress(f"uploading the disk to {self._settings.uri}")
        return self._upload(base.path, name)

    def _upload_file(self, path: Path) -> str:
        seen = path.stat()
        name = f"certify-boot-{path.name}-{seen.st_size}-{seen.st_mtime_ns}"
        return self._find(name) or self._upload(path, name)

    def _find(self, name: str) -> str | None:
        try:
            return str(self._pool.storageVolLookupByName(name).path())
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                with translated():
                    raise
            return None

    def _upload(self, path: Path, name: str) -> str:
        """Send a file; under its final name only when it is whole."""
        size = path.stat().st_size
        with translated(), path.open("rb") as file:
            volume = self._pool.createXML(_volume_xml(name, size, "raw", None), 0)
            try:
                stream = self._connection.newStream(0)
                volume.upload(stream, 0, size, 0)
                stream.sendAll(_read, file)
                stream.finish()
            except BaseException:
                volume.delete(0)
                raise
            return str(volume.path())

    def _volume(self, name: str, size: int, form: str, backing: tuple[str, str] | None) -> str:
        with translated():
            return str(self._pool.createXML(_volume_xml(name, size, form, backing), 0).path())


def node_volumes(domain: Any) -> list[str]:
    """Paths of the volumes that were made for one domain; not of the image below them."""
    return re.findall(r"<source file=['\"]([^'\"]*/certify-n[^'\"]*)['\"]", domain.XMLDesc(0))


def remove_volumes(connection: Any, paths: list[str]) -> None:
    """Delete volumes by path; those that are gone already are fine."""
    for path in paths:
        try:
            connection.storageVolLookupByPath(path).delete(0)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                with translated():
                    raise


def _read(stream: Any, count: int, file: BinaryIO) -> bytes:
    del stream
    return file.read(min(count, _PIECE))


def _volume_xml(name: str, size: int, form: str, backing: tuple[str, str] | None) -> str:
    store = f"<backingStore><path>{backing[0]}</path><format type='{backing[1]}'/></backingStore>" if backing else ""
    target = f"<target><format type='{form}'/></target>"
    return f"<volume><name>{name}</name><capacity unit='bytes'>{size}</capacity>{target}{store}</volume>"
