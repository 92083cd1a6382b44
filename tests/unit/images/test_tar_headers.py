"""Archives that readers could read differently are refused; what tools write is not."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.errors import ImageInvalid
from certify.images.tar_headers import require_plain


def archive(**more: object) -> bytearray:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", **more) as tar:  # type: ignore[call-overload]
        for name, data in (("etc/a", b"a" * 600), ("etc/secret", b"key")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return bytearray(made.getvalue())


def sealed(data: bytearray, at: int) -> bytearray:
    """With the header at ``at`` given its right checksum."""
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return data


def changed(at: int, place: int, value: bytes) -> Callable[[bytearray], bytearray]:
    def change(data: bytearray) -> bytearray:
        data[at + place : at + place + len(value)] = value
        return sealed(data, at)

    return change


def header(kind: bytes, data: bytes) -> bytearray:
    info = tarfile.TarInfo("more")
    info.type, info.size = kind, len(data)
    return bytearray(info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512))


SECOND = 512 + 1024  # behind the first header and its 600 bytes
ODD = {
    "a size that begins with a zero byte": changed(SECOND, 124, b"\x0000000000003"),
    "a mode that begins with a zero byte": changed(SECOND, 100, b"\x00004755"),
    "a number that is none": changed(SECOND, 108, b"0x00017"),
    "junk in the device numbers": changed(SECOND, 329, b"junkjun"),
    "device numbers of a file": changed(SECOND, 329, b"0000007"),
    "an old header": changed(SECOND, 257, b"\0" * 8),
    "an old header with a prefix": lambda data: changed(SECOND, 345, b"usr/share")(
        changed(SECOND, 257, b"\0" * 8)(data)
    ),
    "a prefix that GNU tar does not write": lambda data: changed(SECOND, 345, b"usr")(
        changed(SECOND, 257, b"ustar  \0")(data)
    ),
    "an unknown type": changed(SECOND, 156, b"Z"),
    "a wrong checksum": lambda data: data[: SECOND + 148] + b"0000001\0" + data[SECOND + 156 :],
    "one empty block in the middle": lambda data: data[:SECOND] + bytes(512) + data[SECOND:],
    "files behind its end": lambda data: data + archive(),
    "a negative size": changed(SECOND, 124, b"\xff" * 12),
    "a file without a type that could be a folder": lambda data: changed(SECOND, 0, b"x/\0")(
        changed(SECOND, 156, b"\0")(data)
    ),
    "a header for a file that never comes": lambda data: data[:SECOND] + header(b"x", b"12 path=a/b\n") + bytes(1024),
    "an empty path": lambda data: header(b"x", b"8 path=\n") + data,
    "an empty link": lambda data: header(b"x", b"12 linkpath=\n") + data,
    "sparse records": lambda data: header(b"x", b"21 GNU.sparse.size=0\n") + data,
    "a sparse file": changed(SECOND, 156, b"S"),
    "two pax headers": lambda data: header(b"x", b"12 path=a/b\n") + header(b"x", b"12 path=a/c\n") + data,
    "a pax header, then GNU's": lambda data: header(b"x", b"12 path=a/b\n") + header(b"L", b"a/c\0") + data,
    "GNU's, then a pax header": lambda data: header(b"L", b"a/c\0") + header(b"x", b"12 path=a/b\n") + data,
    "two long names": lambda data: header(b"L", b"a/b\0") + header(b"L", b"a/c\0") + data,
    "an old type behind a pax header": lambda data: header(b"x", b"12 path=a/b\n") + changed(0, 156, b"\0")(data),
    "a cut header": lambda data: data[: SECOND + 100],
}


@pytest.mark.parametrize("what", ODD)
def test_what_readers_read_differently_is_refused(what: str) -> None:
    with pytest.raises(ImageInvalid, match="every reader reads alike"):
        require_plain(io.BytesIO(bytes(ODD[what](archive(format=tarfile.USTAR_FORMAT)))), "x")


@pytest.mark.parametrize(
    "headers", [{"path": "usr/share/doc/README"}, {"size": "0"}, {"uid": "0"}, {"SCHILY.xattr.user.x": "1"}]
)
def test_a_header_for_all_files_says_nothing_but_a_comment(headers: dict[str, str]) -> None:
    with pytest.raises(ImageInvalid, match="for all files"):
        require_plain(io.BytesIO(archive(format=tarfile.PAX_FORMAT, pax_headers=headers)), "x")
    require_plain(io.BytesIO(archive(format=tarfile.PAX_FORMAT, pax_headers={"comment": "a commit"})), "x")


@pytest.mark.parametrize("name", ["size", "uid"])
@pytest.mark.parametrize("value", ["-1", "1.5", "0x10", "\u0661"])
def test_numbers_of_a_pax_header_are_numbers(name: str, value: str) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a")
        info.pax_headers = {name: value}
        tar.addfile(info)
    with pytest.raises(ImageInvalid):
        require_plain(made, "x")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=150),
            st.binary(max_size=2000),
        )
    )
)
def test_what_tools_write_is_read(form: int, files: list[tuple[str, bytes]]) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.mtime = len(data), 2**21 + 5 if form != tarfile.USTAR_FORMAT else 5, 1_700_000_000
            try:
                tar.addfile(info, io.BytesIO(data))
            except ValueError:
                continue  # a name too long for this form
    require_plain(made, "x")
    assert made.tell() == 0


@pytest.mark.parametrize("form", ["gnu", "pax", "ustar"])
def test_gnu_tar_is_read(tmp_path: Path, form: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ("long" * 40)).write_text("x") if form != "ustar" else None
    (tmp_path / "in" / "b").symlink_to("c")
    (tmp_path / "in" / "hole").write_bytes(b"")
    subprocess.run(["tar", "-C", tmp_path, f"--format={form}", "-cf", tmp_path / "a.tar", "in"], check=True)
    with (tmp_path / "a.tar").open("rb") as file:
        require_plain(file, "x")
