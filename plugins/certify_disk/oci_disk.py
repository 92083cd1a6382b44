"""An OCI image as a disk: its layers' root filesystem in ext4, and the kernel it ships, if it does."""

from __future__ import annotations

import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import msgspec

from certify.files import write_whole
from certify.images.candidate import ImageSource, hex_of
from certify.images.rootfs import RootFilesystem
from certify.images.store import Store
from certify.locks import locked
from certify_disk.filesystem import make_ext4

_KERNEL = re.compile(r"boot/(vmlinuz|vmlinux|bzImage)-(.+)")
_MIB = 1024 * 1024


@dataclass(frozen=True)
class OciDisk:
    """A raw disk that is one ext4 filesystem. ``kernel`` and ``initrd`` are files taken out of the image, or empty."""

    path: Path
    virtual_size: int
    kernel: str
    initrd: str
    format: str = "raw"


def disk_of(source: ImageSource, store: Store) -> OciDisk:
    """The image's disk, from the store or made now. Raises ImageInvalid, DigestMismatch or EngineUnavailable."""
    folder = store.folder("oci") / hex_of(source.candidate.digest)
    with locked(store.folder("oci") / f"{hex_of(source.candidate.digest)}.lock"):
        if not (folder / "done.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            _make(source, folder)
    made = msgspec.json.decode((folder / "done.json").read_bytes(), type=dict[str, str])
    disk = folder / "disk"
    return OciDisk(disk, disk.stat().st_size, *(str(folder / made[n]) if made[n] else "" for n in ("kernel", "initrd")))


def _make(source: ImageSource, folder: Path) -> None:
    tree = folder / "tree.tar"
    with RootFilesystem(source) as root:
        kernel, initrd = _boot_files(root, folder)
        root.write(tree)
        size = -(-(root.size * 5 // 4 + 96 * _MIB) // _MIB) * _MIB
    make_ext4(tree, folder / "disk", size, uuid=str(uuid.uuid5(uuid.NAMESPACE_OID, source.candidate.digest)))
    tree.unlink()
    (folder / "disk").chmod(0o400)
    write_whole(folder / "done.json", msgspec.json.encode({"kernel": kernel, "initrd": initrd}))


def _boot_files(root: RootFilesystem, folder: Path) -> tuple[str, str]:
    """Copy the newest kernel and its initrd out. Returns their names in ``folder``, empty for what is not there."""
    found = sorted((m for name in root.entries if (m := _KERNEL.fullmatch(name))), key=lambda m: m[0])
    if not found:
        return "", ""
    version = found[-1][2]
    initrds = (f"boot/initrd.img-{version}", f"boot/initramfs-{version}.img", f"boot/initrd-{version}")
    taken = []
    for name, candidates in (("kernel", (found[-1][0],)), ("initrd", initrds)):
        data = next((data for candidate in candidates if (data := root.read(candidate)) is not None), None)
        if data is not None:
            with (folder / name).open("wb") as file:
                shutil.copyfileobj(data, file)
        taken.append(name if data is not None else "")
    return taken[0], taken[1]
