"""A node's disks: overlays on a frozen base that is never copied and never written."""

from __future__ import annotations

import secrets
import shutil
import struct
from pathlib import Path
from typing import Any, Protocol

from certify.errors import ImageInvalid, UsageError
from certify.images.candidate import ImageSource
from certify.images.store import Store
from certify.models import size_bytes
from certify.nodes.platform import NodeSpec, Progress
from certify_disk.confined import qemu_img
from certify_disk.contents import boots_with
from certify_disk.seed import read_user_data, seed_iso
from certify_disk.transport import DiskSource
from certify_libvirt.access import vendor_data
from certify_libvirt.domain import FIRMWARE_FILES, NodeFiles, Profile
from certify_libvirt.settings import VmSettings
from certify_libvirt.snapshot import Snapshot

#: A node's disk is larger than the image by this, unless vm.disk says how large: real disks are, and roots must grow.
_ROOM = 1024**3


class NodeDisks(Protocol):
    """Makes the disks of nodes where the hypervisor can open them."""

    def base(self, source: ImageSource, progress: Progress) -> None:
        """Have the candidate's disk where nodes can be booted from it. Repeating it costs nothing."""
        ...

    def kernel(self, source: ImageSource) -> tuple[str, str]:
        """Kernel and initrd to boot the candidate with from outside; two empty strings when its disk boots by itself."""
        ...

    def firmware(self, source: ImageSource) -> list[str]:
        """The firmware the disk is made for, at least one; the first is booted."""
        ...

    def user_data(self) -> bytes:
        """The user-data every node is given."""
        ...

    def make(self, source: ImageSource, folder: Path, profile: Profile, spec: NodeSpec) -> NodeFiles:
        """Fresh disks for a cold boot."""
        ...

    def fork(self, folder: Path, snapshot: Snapshot) -> NodeFiles:
        """Disks that go on from a snapshot."""
        ...

    def remove(self, files: NodeFiles) -> None:
        """Take a node's disks away."""
        ...


class LocalDisks:
    """Disks on this machine, for the embedded hypervisor."""

    def __init__(self, store: Store, settings: VmSettings) -> None:
        self._store = store
        self._settings = settings
        self._bases: dict[str, Any] = {}

    def base(self, source: ImageSource, progress: Progress) -> None:
        self.disk(source, progress)

    def disk(self, source: ImageSource, progress: Progress = lambda _: None) -> Any:
        """The candidate's disk on this machine: ``path``, ``format``, ``virtual_size``."""
        if isinstance(source, DiskSource):
            return source
        digest = source.candidate.digest
        if digest not in self._bases:
            from certify_disk.oci_disk import disk_of

            progress("making a root filesystem of the layers")
            self._bases[digest] = disk_of(source, self._store)
        return self._bases[digest]

    def kernel(self, source: ImageSource) -> tuple[str, str]:
        settings = self._settings
        if settings.kernel:
            for path in (settings.kernel, settings.initrd or settings.kernel):
                if not Path(path).is_file():
                    raise UsageError(f"platforms.vm: {path}: no such file", "name a kernel and initrd that exist")
            return str(Path(settings.kernel).absolute()), str(
                Path(settings.initrd).absolute()
            ) if settings.initrd else ""
        base = self.disk(source)
        if isinstance(source, DiskSource):
            return "", ""
        if not base.kernel:
            raise ImageInvalid(
                f"{source.candidate.reference} ships no kernel (/boot/vmlinuz-*)",
                "name one: platforms.vm.kernel and initrd",
            )
        return base.kernel, base.initrd

    def firmware(self, source: ImageSource) -> list[str]:
        return list(boots_with(self.disk(source))) or ["bios"]

    def user_data(self) -> bytes:
        return read_user_data(self._settings.user_data, "platforms.vm.user_data")

    def make(self, source: ImageSource, folder: Path, profile: Profile, spec: NodeSpec) -> NodeFiles:
        base = self.disk(source)
        disks = self._store.folder("nodes") / folder.name
        disks.mkdir(mode=0o700)
        _overlay(base.path, base.format, disks / "disk", node_disk_size(base.virtual_size, self._settings))
        if self._settings.data_disk:
            data = disks / "data"
            qemu_img("create", "-q", "-f", "qcow2", str(data), str(size_bytes(self._settings.data_disk)), writes=data)
        if wants_seed(profile, self._settings):
            (disks / "seed").write_bytes(node_seed(spec, self.user_data()))
        if profile.firmware in FIRMWARE_FILES:
            shutil.copyfile(FIRMWARE_FILES[profile.firmware][1], disks / "nvram")
        return _files(disks, folder)

    def fork(self, folder: Path, snapshot: Snapshot) -> NodeFiles:
        disks = self._store.folder("nodes") / folder.name
        disks.mkdir(mode=0o700)
        _overlay(snapshot.disk, "qcow2", disks / "disk", _qcow2_size(snapshot.disk))
        for name in ("nvram", "seed"):
            if (snapshot.folder / name).exists():
                shutil.copyfile(snapshot.folder / name, disks / name)
        return _files(disks, folder)

    def remove(self, files: NodeFiles) -> None:
        shutil.rmtree(Path(files.disk).parent, ignore_errors=True)


def _overlay(base: Path, form: str, target: Path, size: int) -> None:
    """A writable disk over ``base``, which is only named in it: nothing opens it here."""
    how = ("create", "-q", "-u", "-f", "qcow2", "-F", form, "-b", str(base), str(target), str(size))
    qemu_img(*how, writes=target)


def _qcow2_size(path: Path) -> int:
    """The virtual size in bytes that a qcow2 file of our own has (qemu's docs/interop/qcow2.txt, "Header", byte 24)."""
    with path.open("rb") as file:
        return int(struct.unpack_from(">Q", file.read(32), 24)[0])


def _files(disks: Path, folder: Path) -> NodeFiles:
    def there(name: str) -> str:
        return str(disks / name) if (disks / name).exists() else ""

    return NodeFiles(
        disk=str(disks / "disk"), seed=there("seed"), data=there("data"), nvram=there("nvram"), sockets=str(folder)
    )


def node_disk_size(image: int, settings: VmSettings) -> int:
    """Bytes of a node's disk: as configured, never smaller than the image."""
    wanted = size_bytes(settings.disk) if settings.disk else image + _ROOM
    return -(-max(wanted, image) // 512) * 512


def wants_seed(profile: Profile, settings: VmSettings) -> bool:
    """Whether a node gets a NoCloud seed: machines do; a container image only when user-data is configured for it."""
    return settings.user_data is not None or ("cloud-init" in profile.access and not profile.kernel)


def hostname_of(spec: NodeSpec) -> str:
    """A host name that says which node it is."""
    return "".join(c if c.isalnum() else "-" for c in spec.node_id.lower())[-40:].strip("-") or "certify"


def node_seed(spec: NodeSpec, user_data: bytes) -> bytes:
    """A new instance's seed, with the node's own user-data where it has some."""
    return seed_iso(
        instance=f"certify-{secrets.token_hex(6)}",
        hostname=hostname_of(spec),
        user_data=spec.user_data or user_data,
        vendor_data=vendor_data(),
    )
