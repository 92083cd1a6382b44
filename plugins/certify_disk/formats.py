"""What a disk image file is, decided before any tool that could be tricked opens it.

The format comes from oslo.utils' ``format_inspector``, never from the file's name and never from a tool's probing; every
later call names the format. Packed files (gzip, xz, zstandard, bzip2) are unpacked under the same limits.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from certify.config import Images
from certify.errors import ImageInvalid
from certify.images.store import PIECE, write_sparse
from certify.models import size_bytes
from certify_disk.confined import qemu_img

#: format_inspector's name → qemu's. What is not here is refused.
QEMU_NAMES = {"raw": "raw", "gpt": "raw", "qcow2": "qcow2", "vhd": "vpc", "vhdx": "vhdx", "vmdk": "vmdk"}
_PACKED = {b"\x1f\x8b": "gz", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst", b"BZh": "bz2"}
_FOOTER, _FIXED, _DIFFERENCING = 512, 2, 4
_FLATTENED = ("vmdk", "vhdx", "vpc")  # formats that only qemu-img reads: what boots is their content
_CHECKED = ("qcow2", "vhdx")  # the formats whose structure `qemu-img check` knows
_SECTOR = 512
_VMDK_DESCRIPTOR, _VMDK_FURTHEST = 65536, 2**32


@dataclass(frozen=True)
class Disk:
    """What a file turned out to be. ``format`` is qemu's name of the stored disk, ``given`` the format as given, sizes in
    bytes, ``packing`` the compression around it or empty."""

    format: str
    given: str
    packing: str
    virtual_size: int


def unpack(given: Path, disk: Path, limits: Images) -> Disk:
    """Turn a copy of the file as given into the disk that will boot. Raises ImageInvalid with the reason."""
    packing = _packing(given)
    if packing:
        _decompress(given, disk, packing, limits)
        given.unlink()
    else:
        given.replace(disk)
    found, declared = _inspect(disk, limits)
    if declared == "vhd (fixed)":
        os.truncate(disk, disk.stat().st_size - _FOOTER)  # what is left is the disk, byte for byte
    if found in _CHECKED:
        _check(disk, found)
    if found in _FLATTENED:
        found = _flatten(disk, found, limits)
    size = disk.stat().st_size if found == "raw" else _virtual_size(disk, found)
    if found == "raw":
        _refuse_cut_table(disk, size)
    return Disk(found, declared, packing, size)


def _packing(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(6)
    return next((name for magic, name in _PACKED.items() if head.startswith(magic)), "")


def _decompress(source: Path, target: Path, packing: str, limits: Images) -> None:
    packed, cap, total = source.stat().st_size, size_bytes(limits.max_size), 0
    try:
        with source.open("rb") as file, target.open("wb") as disk:
            for piece in _pieces(file, packing):
                total += len(piece)
                if total > cap:
                    raise ImageInvalid(
                        f"it unpacks to more than {limits.max_size}", "images.max_size in certify.yaml allows more"
                    )
                if total > 64 * PIECE and total > packed * limits.max_ratio:
                    raise ImageInvalid(
                        f"it unpacks to more than {limits.max_ratio} times its size",
                        "that is how decompression bombs look; images.max_ratio in certify.yaml allows more",
                    )
                write_sparse(disk, piece)
            disk.truncate(total)
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile, OSError, ValueError) as error:
        raise ImageInvalid(f"its {packing} packing is cut or damaged ({error})", "copy it again") from None


def _pieces(file: BinaryIO, packing: str) -> Iterator[bytes]:
    if packing == "zst":
        import zstandard

        try:
            yield from zstandard.ZstdDecompressor(max_window_size=2**27).read_to_iter(file, write_size=PIECE)
        except zstandard.ZstdError as error:
            raise ValueError(error) from None
        return
    opener: Any = {"gz": gzip.open, "xz": lzma.open, "bz2": bz2.open}[packing]
    with opener(file) as unpacked:
        while piece := unpacked.read(PIECE):
            yield piece


def _inspect(path: Path, limits: Images) -> tuple[str, str]:
    """qemu's name of the format, and the one declared to the user. Raises ImageInvalid for anything unsafe."""
    from oslo_utils.imageutils import format_inspector

    try:
        found = format_inspector.detect_file_format(str(path))
        if found is None:
            raise ImageInvalid("it is no disk image", "name a qcow2, raw, vhd, vhdx or vmdk file")
        name = str(found)
        if name not in QEMU_NAMES:
            raise ImageInvalid(f"a {name} image is not booted", "convert it to qcow2 or raw where it comes from")
        if name not in ("raw", "gpt"):
            found.safety_check()
            _refuse_size(found.virtual_size, limits)
    except format_inspector.ImageFormatError as error:
        raise ImageInvalid(f"it is more than one format at once, or cut ({error})", "do not use this file") from None
    except format_inspector.SafetyCheckFailed as error:
        reasons = "; ".join(str(reason) for reason in error.failures.values())
        raise ImageInvalid(f"it is not safe to open: {reasons}", "make it stand alone: qemu-img convert") from None
    _refuse_size(path.stat().st_size, limits)
    if name == "vhd":
        _refuse_differencing(path)
    if name == "vmdk":
        _refuse_vmdk_parent(path)
    if QEMU_NAMES[name] == "raw" and _fixed_vhd(path):
        return "raw", "vhd (fixed)"
    return QEMU_NAMES[name], "raw" if name == "gpt" else name


def _refuse_size(size: int, limits: Images) -> None:
    if size > size_bytes(limits.max_size):
        raise ImageInvalid(
            f"its disk is {size / 2**30:.1f} GiB, more than {limits.max_size}",
            "images.max_size in certify.yaml allows more",
        )
    if size == 0:
        raise ImageInvalid("it is empty", "copy it again")


def _fixed_vhd(path: Path) -> bool:
    """A fixed VHD is a raw disk with a footer behind it (Virtual Hard Disk Image Format Specification, "Hard Disk Footer")."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _FOOTER))
        footer = file.read(_FOOTER)
    if len(footer) < _FOOTER or not footer.startswith(b"conectix"):
        return False
    current, kind = struct.unpack_from(">Q", footer, 48)[0], struct.unpack_from(">I", footer, 60)[0]
    if kind != _FIXED or current != size - _FOOTER:
        raise ImageInvalid("its VHD footer does not fit the file", "it is cut or damaged; copy it again")
    return True


def _refuse_differencing(path: Path) -> None:
    with path.open("rb") as file:
        kind = struct.unpack_from(">I", file.read(_FOOTER), 60)[0]
    if kind == _DIFFERENCING:
        raise ImageInvalid(
            "it is not safe to open: a differencing VHD has its data in a parent", "merge it with its parent"
        )


def _flatten(disk: Path, name: str, limits: Images) -> str:
    """Put the disk's content in its place, opened with no parent whatever it says of one. Returns the format it has then."""
    _refuse_size(_virtual_size(disk, name), limits)
    flat = disk.with_name("flat.partial")
    how = f"driver={name},file.driver=file,file.filename={disk}"
    qemu_img("convert", "-q", "--image-opts", "-O", "raw", how, str(flat), reads=[disk], writes=flat)
    flat.replace(disk)
    return "raw"


def _refuse_vmdk_parent(path: Path) -> None:
    """A VMDK stands alone when its descriptor (Virtual Disk Format 1.1, "Descriptor") names no parent and one sparse extent."""
    with path.open("rb") as file:
        head = file.read(_SECTOR)
        text = head + file.read(_VMDK_DESCRIPTOR)
        if head.startswith(b"KDMV"):
            start, count = struct.unpack_from("<QQ", head, 28)
            file.seek(min(start, _VMDK_FURTHEST) * _SECTOR)
            text = file.read(min(count * _SECTOR, _VMDK_DESCRIPTOR))
    said = {
        key.strip().lower(): value.strip(b' "\r').lower()
        for key, _, value in (x.partition(b"=") for x in text.split(b"\n"))
    }
    parents = [key.decode() for key in said if key.startswith(b"parentfile")]
    if parents or said.get(b"parentcid", b"ffffffff") != b"ffffffff":
        raise ImageInvalid(
            "it is not safe to open: its data is in a parent", "merge it with its parent: qemu-img convert"
        )
    if said.get(b"createtype") not in (b"monolithicsparse", b"streamoptimized"):
        raise ImageInvalid(
            "it is not safe to open: its data is in other files", "make it stand alone: qemu-img convert"
        )


def _refuse_cut_table(path: Path, size: int) -> None:
    """A GPT names its last block (UEFI 2.10, 5.3.2: AlternateLBA); a file that ends before it has been cut."""
    with path.open("rb") as file:
        head = file.read(2 * _SECTOR)
    if head[_SECTOR : _SECTOR + 8] == b"EFI PART":
        last = struct.unpack_from("<Q", head, _SECTOR + 32)[0]
        if (last + 1) * _SECTOR > size:
            raise ImageInvalid(
                f"its partition table needs {(last + 1) * _SECTOR} bytes, the file has {size}", "copy it again"
            )


def _virtual_size(path: Path, name: str) -> int:
    import msgspec

    told = msgspec.json.decode(
        qemu_img("info", "-f", name, "--output=json", str(path), reads=[path]), type=dict[str, Any]
    )
    return int(told["virtual-size"])


def _check(path: Path, name: str) -> None:
    """Structure: reference counts right, and every cluster inside the file. Only leaks are forgiven (status 3)."""
    import msgspec

    answer = qemu_img("check", "-f", name, "--output=json", str(path), reads=[path], fine=(0, 3))
    end = int(msgspec.json.decode(answer, type=dict[str, Any]).get("image-end-offset", 0))
    if end > path.stat().st_size:
        raise ImageInvalid(
            f"its data goes to byte {end}, the file has {path.stat().st_size}", "it is cut; copy it again"
        )
