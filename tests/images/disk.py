"""Bootable disk images from Debian packages: GPT, BIOS and UEFI (with secure boot), without root tricks.

Layout: a BIOS boot partition with GRUB's core image, an EFI system partition with Debian's signed shim and GRUB, and an
ext4 root that grows to the disk at first boot.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import struct
import subprocess
import tarfile
from pathlib import Path

from certify_disk import filesystem
from tests.images.builder import CACHE, EPOCH, HERE, Recipe, debian_base, entries

SECTOR = 512
MIB = 1024 * 1024
_BIOS_AT, _ESP_AT, _ROOT_AT = 1, 2, 18  # MiB
ROOT_UUID = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"  # the type too: Discoverable Partitions Specification, root-x86-64
_MODULES = "biosdisk part_gpt ext2 linux normal search search_label configfile echo test"
_EARLY = "search --no-floppy --label root --set=root\nconfigfile ($root)/boot/grub/grub.cfg\n"
_SHIM = "usr/lib/shim/shimx64.efi.signed"
_GRUB = "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
_TOOLS = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "MTOOLS_SKIP_CHECK": "1"}


_ROOT_SIZE = 500 * MIB


def build_disk(recipe: Recipe) -> Path:
    """The recipe's qcow2 disk, from the cache or made now."""
    sources = "".join((HERE / name).read_text() for name in ("disk.py", "disk.sh", "initramfs.sh"))
    sources += inspect.getsource(filesystem)
    key = hashlib.sha256(f"{recipe.digest} {sources}".encode()).hexdigest()[:16]
    disk = CACHE / f"{recipe.name}-{key}.qcow2"
    if not disk.exists():
        base = debian_base(machine=True, more=recipe.data.get("packages", ""))
        tree, root, flat = (disk.with_suffix(suffix) for suffix in (".tree", ".ext4", ".raw"))
        with tarfile.open(base) as old, tarfile.open(tree, "w", format=tarfile.PAX_FORMAT) as new:
            overlay = list(entries(recipe.data, base))
            replaced = {info.name for info, _ in overlay}
            for member in old:
                if member.name not in replaced:
                    new.addfile(member, old.extractfile(member) if member.isreg() else None)
            for info, content in overlay:
                info.mtime = EPOCH
                new.addfile(info, io.BytesIO(content) if content is not None else None)
        filesystem.make_ext4(tree, root, _ROOT_SIZE, uuid=ROOT_UUID)
        assemble(root, signed_programs(), flat)
        _run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(flat), str(disk.with_suffix(".partial"))])
        disk.with_suffix(".partial").rename(disk)
        for leftover in (tree, root, flat):
            leftover.unlink()
    return disk


def kernel() -> tuple[Path, Path]:
    """The machine base's kernel and initramfs, for images that ship none."""
    base = debian_base(machine=True)
    files = CACHE / f"{base.stem}.vmlinuz", CACHE / f"{base.stem}.initrd"
    if not files[1].exists():
        with tarfile.open(base) as tar:
            for member in tar:
                for prefix, target in zip(("boot/vmlinuz-", "boot/initrd.img-"), files, strict=True):
                    if member.name.startswith(prefix):
                        data = tar.extractfile(member)
                        assert data is not None
                        target.write_bytes(data.read())
    return files


def signed_programs() -> Path:
    """Debian's signed shim and GRUB, taken out of their packages; nothing of them is installed."""
    folder = CACHE / "signed"
    if not folder.exists():
        partial = CACHE / "signed.partial"
        command = [
            "mmdebstrap",
            "--quiet",
            "--variant=extract",
            "--include=shim-signed,grub-efi-amd64-signed",
            "bookworm",
        ]
        subprocess.run([*command, f"{partial}.tar"], check=True, env=_TOOLS)
        partial.mkdir(exist_ok=True)
        for name in (_SHIM, _GRUB):
            _run(["tar", "-x", "-C", str(partial), "-f", f"{partial}.tar", f"./{name}"])
        Path(f"{partial}.tar").unlink()
        partial.rename(folder)
    return folder


def assemble(root: Path, signed: Path, target: Path) -> None:
    """Write ``target``, a raw disk, around the ext4 image ``root``; ``signed`` holds Debian's signed boot programs."""
    size = _ROOT_AT * MIB + root.stat().st_size + MIB
    partial = target.with_suffix(".partial")
    with partial.open("wb") as disk:
        disk.truncate(size)
    table = (
        "label: gpt\nlabel-id: 11111111-2222-4333-8444-555555555555\n"
        f"start={_BIOS_AT}MiB, size=1MiB, type=21686148-6449-6E6F-744E-656564454649, name=bios\n"
        f"start={_ESP_AT}MiB, size=16MiB, type=uefi, name=esp\n"
        f"start={_ROOT_AT}MiB, size={root.stat().st_size // SECTOR}, type={ROOT_UUID}, name=root\n"
    )
    _run(["sfdisk", "-q", str(partial)], table.encode())
    esp = _esp(signed, target.with_suffix(".esp"))
    _copy(root, partial, _ROOT_AT * MIB)
    _copy(esp, partial, _ESP_AT * MIB)
    esp.unlink()
    _grub_for_bios(partial, target.with_suffix(".core"))
    partial.rename(target)


def _esp(signed: Path, target: Path) -> Path:
    with target.open("wb") as file:
        file.truncate(16 * MIB)
    early = target.with_suffix(".cfg")
    early.write_text(_EARLY)
    _run(["mkfs.vfat", "-n", "ESP", "-i", "c0ffee00", str(target)])
    _run(["mmd", "-i", str(target), "::EFI", "::EFI/BOOT", "::EFI/debian"])
    places = {
        signed / _SHIM: "::EFI/BOOT/BOOTX64.EFI",
        signed / _GRUB: "::EFI/BOOT/grubx64.efi",
        early: "::EFI/debian/grub.cfg",
    }
    for source, place in places.items():
        _run(["mcopy", "-i", str(target), str(source), place])
    early.unlink()
    return target


def _grub_for_bios(disk: Path, core: Path) -> None:
    """What ``grub-install`` does, on a file: boot.img in the MBR, the core image in the BIOS boot partition.

    Offsets are those of GRUB 2 (include/grub/i386/pc/boot.h): where boot.img finds the core image, and the block list at the
    end of the core image's first sector.
    """
    early = core.with_suffix(".cfg")
    early.write_text(_EARLY)
    command = [
        "grub-mkimage",
        "-O",
        "i386-pc",
        "-o",
        str(core),
        "-c",
        str(early),
        "-p",
        "/boot/grub",
        *_MODULES.split(),
    ]
    _run(command)
    image = bytearray(core.read_bytes())
    first = _BIOS_AT * MIB // SECTOR
    rest = -(-len(image) // SECTOR) - 1
    struct.pack_into("<QHH", image, SECTOR - 12, first + 1, rest, 0x820)
    boot = bytearray(Path("/usr/lib/grub/i386-pc/boot.img").read_bytes()[:440])
    struct.pack_into("<Q", boot, 0x5C, first)
    boot[0x66:0x68] = b"\x90\x90"  # boot from the disk the BIOS names, as grub-install does
    with disk.open("r+b") as file:
        file.write(boot)
        file.seek(first * SECTOR)
        file.write(image)
    core.unlink()
    early.unlink()


def _copy(source: Path, target: Path, offset: int) -> None:
    _run(["dd", f"if={source}", f"of={target}", "bs=1M", f"seek={offset // MIB}", "conv=notrunc,sparse"])


def _run(command: list[str], data: bytes | None = None) -> None:
    subprocess.run(command, input=data, check=True, env=_TOOLS, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
