"""Disk images that are hostile, cut or something else: each refused with its reason, before any tool believes them."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from certify.config import Images
from certify.errors import ImageInvalid, ImageNotFound
from certify.images.candidate import digest_of
from certify.images.reference import parse
from certify.images.resolve import Resolver
from certify_disk import confined
from certify_disk.contents import examine
from certify_disk.transport import DiskSource, DiskTransport

MIB = 1024 * 1024


@pytest.fixture
def limits(tmp_path: Path) -> Images:
    return Images(store=str(tmp_path / "store"), max_size="64MiB", max_ratio=100)


@pytest.fixture
def opened(limits: Images) -> Callable[[Path], DiskSource]:
    def open_(path: Path) -> DiskSource:
        source = Resolver([DiskTransport(limits)]).open(str(path))
        assert isinstance(source, DiskSource)
        return source

    return open_


def qemu_img(*arguments: str) -> None:
    """The tests' own files need no confinement."""
    subprocess.run(["qemu-img", *arguments], check=True, capture_output=True)


def make(path: Path, form: str, size: int = 8 * MIB, *options: str) -> Path:
    """A disk of ``form`` with a byte at its beginning and one at its end."""
    raw = path.with_suffix(".flat")
    with raw.open("wb") as file:
        file.write(b"certify".ljust(512, b"\0"))
        file.truncate(size - 1)
        file.seek(size - 1)
        file.write(b"\1")
    qemu_img("convert", "-f", "raw", "-O", form, *options, str(raw), str(path))
    raw.unlink()
    return path


def patched(path: Path, at: int, data: bytes) -> Path:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)
    return path


@pytest.mark.parametrize(
    ("name", "form", "options", "given"),
    [
        ("a.qcow2", "qcow2", (), "qcow2"), ("a.raw", "raw", (), "raw"), ("a.img", "qcow2", (), "qcow2"),
        ("a.vhdx", "vhdx", (), "vhdx"), ("a.vmdk", "vmdk", ("-o", "subformat=monolithicSparse"), "vmdk"),
        ("b.vmdk", "vmdk", ("-o", "subformat=streamOptimized"), "vmdk"),
        ("a.vhd", "vpc", ("-o", "subformat=dynamic,force_size=on"), "vhd"),
        ("b.vhd", "vpc", ("-o", "subformat=fixed,force_size=on"), "vhd (fixed)"),
    ],
)  # fmt: skip
def test_every_format_is_known_by_its_content(
    tmp_path: Path, opened: Callable[[Path], DiskSource], name: str, form: str, options: tuple[str, ...], given: str
) -> None:
    path = make(tmp_path / name, form, 8 * MIB, *options)
    source = opened(path)
    assert (source.given, source.virtual_size) == (given, 8 * MIB)
    assert source.candidate.digest == digest_of(path.read_bytes())
    assert source.candidate.kind == "disk"
    flat = tmp_path / "flat"
    qemu_img("convert", "-f", source.format, "-O", "raw", str(source.path), str(flat))
    assert flat.read_bytes()[:7] == b"certify"
    assert flat.read_bytes()[-1:] == b"\1"


@pytest.mark.parametrize("packing", ["gz", "xz", "zst", "bz2"])
def test_a_packed_disk_keeps_the_digest_of_the_file_as_given(
    tmp_path: Path, opened: Callable[[Path], DiskSource], packing: str
) -> None:
    pack = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress, "zst": zstandard.ZstdCompressor().compress}
    inner = make(tmp_path / "a.qcow2", "qcow2")
    path = tmp_path / f"a.qcow2.{packing}"
    path.write_bytes(pack[packing](inner.read_bytes()))
    source = opened(path)
    assert source.candidate.digest == digest_of(path.read_bytes())
    assert source.path.read_bytes() == inner.read_bytes()
    assert (source.packing, source.format) == (packing, "qcow2")
    cut = tmp_path / f"cut.qcow2.{packing}"
    cut.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ImageInvalid, match="cut or damaged"):
        opened(cut)


def test_the_frozen_copy_does_not_change_with_the_original(
    tmp_path: Path, opened: Callable[[Path], DiskSource]
) -> None:
    path = make(tmp_path / "a.raw", "raw")
    first = opened(path)
    before = first.path.read_bytes()
    patched(path, 300_000, b"changed")
    assert first.path.read_bytes() == before
    assert first.path.stat().st_mode & 0o222 == 0
    assert opened(path).candidate.digest != first.candidate.digest


def test_a_file_is_read_once(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    path = make(tmp_path / "a.qcow2", "qcow2")
    first = opened(path)
    reading = path.stat().st_atime_ns
    os.utime(path, ns=(0, path.stat().st_mtime_ns))
    again = opened(path)  # utime changed ctime: read again, and found in the store by digest
    assert again.path == first.path
    assert opened(path).path == first.path
    assert reading


def refused(opened: Callable[[Path], DiskSource], path: Path, reason: str) -> None:
    with pytest.raises(ImageInvalid) as raised:
        opened(path)
    assert reason in raised.value.message
    assert str(path) in raised.value.message
    assert raised.value.hint


def test_a_backing_file_is_refused(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    path = tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/shadow", str(path), "8M")
    refused(opened, path, "backing file")


def test_an_external_data_file_is_refused(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    path = tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/data,data_file_raw=on", str(path), "8M")
    refused(opened, path, "data_file")


def test_unknown_feature_bits_are_refused(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    refused(opened, patched(make(tmp_path / "a.qcow2", "qcow2"), 72, b"\x80"), "features")


def test_extents_elsewhere_are_refused(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    path = make(tmp_path / "a.vmdk", "vmdk", 8 * MIB, "-o", "subformat=monolithicSparse")
    data = path.read_bytes()
    line = next(part for part in data.split(b"\n") if part.startswith(b"RW "))
    other = line.replace(b"a.vmdk", b"/e/sha").ljust(len(line))[: len(line)]
    path.write_bytes(data.replace(line, other))
    refused(opened, path, "extent")


@pytest.mark.parametrize(
    "change", [(b"parentCID=ffffffff", b"parentCID=12345678"), (b"# Disk DescriptorFile", b'parentFileNameHint="/a"')]
)
def test_a_vmdk_with_a_parent_is_refused(
    tmp_path: Path, opened: Callable[[Path], DiskSource], change: tuple[bytes, bytes]
) -> None:
    """``certify inspect`` once copied a file of the host that the hint named."""
    path = make(tmp_path / "a.vmdk", "vmdk", 8 * MIB, "-o", "subformat=monolithicSparse")
    old, new = change
    path.write_bytes(path.read_bytes().replace(old, new.ljust(len(old)), 1))
    refused(opened, path, "parent")


def test_what_reads_foreign_disks_sees_nothing_else(tmp_path: Path) -> None:
    """Even a parent that no check had noticed could not be read: the reader sees its own files only."""
    path, out = tmp_path / "a.qcow2", tmp_path / "out"
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret".ljust(MIB, b"\0"))
    qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(secret), str(path))
    with pytest.raises(ImageInvalid, match="Could not open backing file"):
        confined.qemu_img("convert", "-f", "qcow2", "-O", "raw", str(path), str(out), reads=[path], writes=out)
    assert b"secret" not in out.read_bytes()


def test_a_differencing_vhd_is_refused(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    path = make(tmp_path / "a.vhd", "vpc", 8 * MIB, "-o", "subformat=dynamic,force_size=on")
    refused(opened, patched(path, 60, struct.pack(">I", 4)), "parent")


def test_two_formats_at_once_are_refused(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    path = make(tmp_path / "a.qcow2", "qcow2")
    refused(opened, patched(path, 510, b"\x55\xaa"), "more than one format")


def test_a_qcow2_inside_of_raw_data_stays_data(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    """A raw disk whose content begins with a qcow2 file at any offset is still a raw disk: nothing probes it."""
    inner = make(tmp_path / "inner.qcow2", "qcow2").read_bytes()
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(MIB) + inner + bytes(-len(inner) % 512))
    source = opened(path)
    assert (source.format, source.virtual_size) == ("raw", path.stat().st_size)


def test_a_raw_name_does_not_make_a_qcow2_raw(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(make(tmp_path / "b.qcow2", "qcow2").read_bytes())
    assert opened(path).format == "qcow2"


def test_a_declared_size_over_the_cap_is_refused(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    path = tmp_path / "a.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", str(path), "1T")
    refused(opened, path, "more than 64MiB")


def test_an_unpacked_size_over_the_cap_is_refused(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    path = tmp_path / "a.raw.xz"
    path.write_bytes(lzma.compress(os.urandom(MIB) * 70))
    refused(opened, path, "unpacks to more than 64MiB")


def test_a_bomb_is_refused(tmp_path: Path, limits: Images) -> None:
    path = tmp_path / "a.raw.gz"
    path.write_bytes(gzip.compress(bytes(300 * MIB), compresslevel=9))
    roomy = Images(store=limits.store, max_size="1GiB", max_ratio=100)
    with pytest.raises(ImageInvalid, match="more than 100 times"):
        DiskTransport(roomy).open(parse(str(path)))


@pytest.mark.parametrize("form", ["qcow2", "vhdx"])
def test_a_cut_file_is_refused(tmp_path: Path, opened: Callable[[Path], DiskSource], form: str) -> None:
    path = make(tmp_path / f"a.{form}", form)
    os.truncate(path, path.stat().st_size - 300_000)
    with pytest.raises(ImageInvalid):
        opened(path)


def test_a_cut_fixed_vhd_is_refused(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    path = make(tmp_path / "a.vhd", "vpc", 8 * MIB, "-o", "subformat=fixed,force_size=on")
    data = path.read_bytes()
    path.write_bytes(data[: -MIB - 512] + data[-512:])
    refused(opened, path, "footer does not fit")


def test_a_cut_partition_table_is_refused(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    path = gpt(tmp_path / "a.raw")
    os.truncate(path, 6 * MIB)
    refused(opened, path, "partition table needs")


@pytest.mark.parametrize("form", ["vdi", "qed"])
def test_other_formats_are_refused(tmp_path: Path, opened: Callable[[Path], DiskSource], form: str) -> None:
    path = tmp_path / "a.img"
    make(path, form)
    refused(opened, path, f"a {form} image is not booted")


def test_nothing_is_kept_of_what_was_refused(
    tmp_path: Path, opened: Callable[[Path], DiskSource], limits: Images
) -> None:
    refused(opened, patched(make(tmp_path / "a.qcow2", "qcow2"), 72, b"\x80"), "features")
    store = Path(limits.store)
    assert [path for path in store.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(("name", "what"), [("no.qcow2", "no such file"), ("folder.qcow2", "not a regular file")])
def test_a_path_that_is_no_file(tmp_path: Path, opened: Callable[[Path], DiskSource], name: str, what: str) -> None:
    (tmp_path / "folder.qcow2").mkdir()
    with pytest.raises(ImageNotFound, match=what):
        opened(tmp_path / name)


def test_an_empty_file_is_refused(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    (tmp_path / "a.raw").write_bytes(b"")
    refused(opened, tmp_path / "a.raw", "empty")


def gpt(path: Path, *, esp: bool = True) -> Path:
    with path.open("wb") as file:
        file.truncate(8 * MIB)
    table = "label: gpt\nsize=1MiB, type=21686148-6449-6E6F-744E-656564454649, name=bios\n"
    table += "size=2MiB, type=uefi, name=esp\n" if esp else ""
    subprocess.run(
        ["sfdisk", "-q", str(path)], input=table.encode(), check=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    return path


def test_what_is_on_a_disk_is_told(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    path = gpt(tmp_path / "a.raw")
    patched(path, 0, b"\xfa")  # boot code
    found = examine(opened(path))
    assert (found.table, found.firmware) == ("gpt", ("bios", "uefi"))
    assert [(p.type, p.name, p.size) for p in found.partitions] == [
        ("BIOS boot", "bios", MIB),
        ("EFI system", "esp", 2 * MIB),
    ]


def test_a_disk_without_boot_code_boots_nothing(tmp_path: Path, opened: Callable[[Path], DiskSource]) -> None:
    assert examine(opened(gpt(tmp_path / "a.raw", esp=False))).firmware == ()
