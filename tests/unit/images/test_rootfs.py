"""Layers to one root filesystem: whiteouts, opaque directories, hard links, attributes, and hostile names."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.config import Images
from certify.errors import ImageInvalid
from certify.images.candidate import Layer, digest_of
from certify.images.rootfs import RootFilesystem
from certify.testing.local import FakeSource

Member = tuple[
    str, str | bytes | None
]  # a name with its data (bytes), link target ("->x", "=>x" hard), or None: a directory


class LayeredSource(FakeSource):
    def __init__(self, *layers: list[Member]) -> None:
        super().__init__()
        self._blobs = [_tar(layer) for layer in layers]
        self.candidate = replace(self.candidate, diff_ids=tuple(digest_of(blob) for blob in self._blobs))

    def layers(self) -> tuple[Layer, ...]:
        return tuple(Layer(digest_of(b), len(b), "tar") for b in self._blobs)

    def blob(self, layer: Layer) -> io.BytesIO:  # an iterator of pieces, as every source gives
        return io.BytesIO(next(b for b in self._blobs if digest_of(b) == layer.digest))


def _tar(members: list[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(data, str):
                info.type = tarfile.LNKTYPE if data.startswith("=>") else tarfile.SYMTYPE
                info.linkname = data[2:]
            else:
                info.size = len(data)
                info.uid, info.mode = 1000, 0o640
                info.pax_headers = {"SCHILY.xattr.user.note": "kept"}
            tar.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return buffer.getvalue()


def merged(tmp_path: Path, *layers: list[Member]) -> dict[str, str | bytes | None]:
    with RootFilesystem(LayeredSource(*layers)) as root:
        root.write(tmp_path / "out.tar")
    found: dict[str, str | bytes | None] = {}
    with tarfile.open(tmp_path / "out.tar") as tar:
        for member in tar:
            if member.isreg():
                data = tar.extractfile(member)
                assert data is not None
                found[member.name] = data.read()
            else:
                found[member.name] = None if member.isdir() else ("=>" if member.islnk() else "->") + member.linkname
    return found


def test_a_later_layer_wins(tmp_path: Path) -> None:
    assert merged(tmp_path, [("a", b"1"), ("b", b"1")], [("a", b"2")]) == {"a": b"2", "b": b"1"}


def test_a_whiteout_removes_a_file_or_a_tree(tmp_path: Path) -> None:
    lower: list[Member] = [("d", None), ("d/x", b"1"), ("d/y", b"1"), ("e", None), ("e/z", b"1")]
    assert merged(tmp_path, lower, [("d/.wh.x", b""), (".wh.e", b"")]) == {"d": None, "d/y": b"1"}


def test_an_opaque_directory_hides_what_was_below_it_and_not_what_comes_with_it(tmp_path: Path) -> None:
    lower: list[Member] = [("d", None), ("d/old", b"1")]
    assert merged(tmp_path, lower, [("d", None), ("d/new", b"2"), ("d/.wh..wh..opq", b"")]) == {
        "d": None,
        "d/new": b"2",
    }


def test_a_file_in_place_of_a_directory_takes_its_tree_away(tmp_path: Path) -> None:
    assert merged(tmp_path, [("d", None), ("d/x", b"1")], [("d", b"file")]) == {"d": b"file"}


def test_hard_links_stay_links(tmp_path: Path) -> None:
    assert merged(tmp_path, [("a", b"1"), ("b", "=>a"), ("c", "=>a")]) == {"a": b"1", "b": "=>a", "c": "=>a"}


def test_when_one_name_goes_the_others_keep_the_file(tmp_path: Path) -> None:
    lower: list[Member] = [("a", b"1"), ("b", "=>a"), ("c", "=>a")]
    assert merged(tmp_path, lower, [(".wh.a", b"")]) == {"b": b"1", "c": "=>b"}
    assert merged(tmp_path, lower, [("a", b"new")]) == {"a": b"new", "b": b"1", "c": "=>b"}


def test_owners_modes_and_attributes_are_kept(tmp_path: Path) -> None:
    with RootFilesystem(LayeredSource([("a", b"1")])) as root:
        root.write(tmp_path / "out.tar")
    with tarfile.open(tmp_path / "out.tar") as tar:
        member = tar.getmember("a")
    assert (member.uid, member.mode, member.pax_headers["SCHILY.xattr.user.note"]) == (1000, 0o640, "kept")


def test_a_kernel_is_found_through_a_link(tmp_path: Path) -> None:
    with RootFilesystem(
        LayeredSource([("boot", None), ("boot/vmlinuz-6", b"k"), ("vmlinuz", "->boot/vmlinuz-6")])
    ) as root:
        data = root.read("vmlinuz")
        assert data is not None
        assert data.read() == b"k"
        assert root.read("nothing") is None


@pytest.mark.parametrize(
    "layers",
    [
        [[("../etc/passwd", b"x")]],
        [[("a/../../b", b"x")]],
        [[("a", "=>../../etc/shadow")]],
        [[("a", "=>nothing")]],
        [[("d", "->/etc"), ("d/passwd", b"x")]],
        [[("d", "->/etc")], [("d/passwd", b"x")]],
    ],
)
def test_hostile_layers_are_refused(tmp_path: Path, layers: list[list[Member]]) -> None:
    with pytest.raises(ImageInvalid):
        merged(tmp_path, *layers)


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "d/a", "d/b", "d/.wh.a", ".wh.d", "d/.wh..wh..opq"]), st.binary(max_size=3)
            ),
            max_size=5,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_merging_is_applying_one_layer_after_the_other(
    tmp_path_factory: pytest.TempPathFactory, layers: list[list[Member]]
) -> None:
    """Against the plainest model: a dictionary, changed layer by layer."""
    whole = [[("d", None), *layer] for layer in layers]
    model: dict[str, str | bytes | None] = {}
    for layer in whole:
        for name, _ in layer:
            head, _, base = name.rpartition("/")
            prefix = f"{head}/" if head else ""
            if base == ".wh..wh..opq":
                model = {k: v for k, v in model.items() if not k.startswith(prefix)}
            elif base.startswith(".wh."):
                gone = prefix + base[4:]
                model = {k: v for k, v in model.items() if k != gone and not k.startswith(f"{gone}/")}
        model |= {name: data for name, data in layer if ".wh." not in name}
    assert merged(tmp_path_factory.mktemp("rootfs"), *whole) == model


def test_the_content_of_a_hard_link_into_a_lower_layer_is_its_files() -> None:
    with RootFilesystem(LayeredSource([("a", b"1")], [("b", "=>a")])) as root:
        assert root.content("/b") == b"1"
        assert root.content("/a") == b"1"


def test_what_no_text_can_be_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certify.images.rootfs.MOST_READ", 10)
    monkeypatch.setattr("certify.images.files.MOST_READ", 10)
    with RootFilesystem(LayeredSource([("a", b"1" * 11), ("b", b"1" * 10)])) as root:
        assert root.content("/b") == b"1" * 10
        with pytest.raises(ImageInvalid, match="larger than 10 bytes"):
            root.content("/a")


def test_what_a_later_layer_removed_or_replaced_is_still_told() -> None:
    lower: list[Member] = [("root", None), ("root/key", b"secret"), ("etc/a", b"1"), ("d/x", b"2"), ("l", "->root/key")]
    upper: list[Member] = [("root/.wh.key", b""), ("etc/a", b"other"), ("d/.wh..wh..opq", b"")]
    with RootFilesystem(LayeredSource(lower, upper)) as root:
        assert {file.path: read() for file, read in root.buried()} == {
            "/root/key": b"secret",
            "/etc/a": b"1",
            "/d/x": b"2",
        }
        assert "/root/key" not in {file.path for file in root.listed()}


def test_a_hard_link_to_a_hard_link_is_the_file() -> None:
    with RootFilesystem(LayeredSource([("a", b"key"), ("b", "=>a"), ("c", "=>b")])) as root:
        assert {file.path: file.size for file in root.listed()} == {"/a": 3, "/b": 3, "/c": 3}
        assert root.content("/c") == b"key"


def test_capabilities_are_read_off_the_layer() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, headers in (("bin/ping", {"SCHILY.xattr.security.capability": "\x01"}), ("bin/ls", {})):
            info = tarfile.TarInfo(name)
            info.pax_headers = headers
            tar.addfile(info)
    source = LayeredSource()
    source._blobs = [buffer.getvalue()]
    source.candidate = replace(source.candidate, diff_ids=(digest_of(buffer.getvalue()),))
    with RootFilesystem(source) as root:
        assert {file.path: file.capabilities for file in root.listed()} == {"/bin/ping": True, "/bin/ls": False}


def test_many_files_in_two_layers_take_no_time_that_grows_with_their_square() -> None:
    """Counted in lookups of the index, not in seconds: a hidden file costs what lies below it."""
    lower: list[Member] = [(f"d{n}/f", b"1") for n in range(3000)]
    upper: list[Member] = [(f"e{n}/f", b"2") for n in range(3000)]
    with RootFilesystem(LayeredSource(lower, upper)) as root:
        touched = sum(len(below) for below in root._below.values())
        assert len(root.entries) == 6000
        assert touched == 12000


def test_layers_together_are_bounded() -> None:
    layer: list[Member] = [("zeroes", bytes(40 * 1024 * 1024))]
    source = LayeredSource(*[layer] * 3)
    with (
        pytest.raises(ImageInvalid, match="unpack to more than an image may"),
        RootFilesystem(source, Images(max_size="100MiB", max_ratio=2)),
    ):
        pass


@pytest.mark.parametrize("upper", [[("a", b"N"), ("b", b"N")], [("d/.wh..wh..opq", b""), ("a", b"N"), ("b", b"N")]])
def test_a_link_to_a_link_keeps_its_file_when_both_are_replaced(tmp_path: Path, upper: list[Member]) -> None:
    assert merged(tmp_path, [("a", b"A"), ("b", "=>a"), ("c", "=>b")], upper)["c"] == b"A"
