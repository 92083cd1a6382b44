"""What runs on a metal node, on files in place of disks: writing, proving, resuming, moving the table, choosing the disk."""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify_metal.host.chunks import make_manifest
from certify_metal.host.keys import make_keys
from certify_metal.node.installer import agent, writer
from certify_metal.node.installer.disks import NoSuchDisk, idle_controllers, list_disks, select
from certify_metal.node.installer.gpt import BadTable, move
from certify_metal.node.installer.medium import Medium, WriteFailed, wipe
from certify_metal.node.installer.writer import Order, Writer

MIB = 1024 * 1024
SEED = b"seed".ljust(4096, b"\1")
SEED_ID = uuid.UUID(int=7)
_TABLE = """label: gpt
label-id: 11111111-2222-4333-8444-555555555555
start=1MiB, size=1MiB, name=a, uuid=11111111-2222-4333-8444-666666666666
start=2MiB, size=5MiB, type=linux, name=root, uuid=11111111-2222-4333-8444-777777777777
"""


def image(folder: Path, *, fill: bytes = b"x", size: int = 8 * MIB, name: str = "image") -> Path:
    path = folder / name
    with path.open("wb") as file:
        file.truncate(size)
    subprocess.run(
        ["sfdisk", "-q", str(path)], input=_TABLE.encode(), check=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin"}
    )
    with path.open("r+b") as file:
        for at in (2, 4, 5):
            file.seek(at * MIB)
            file.write(fill * 5000)
    return path


def blank(folder: Path, size: int = 32 * MIB, fill: bytes = b"") -> Path:
    path = folder / "disk"
    with path.open("wb") as file:
        file.write(fill * (size // max(1, len(fill))) if fill else b"")
        file.truncate(size)
    return path


class Server:
    """Serves an image, and keeps what was asked for: chunks by their number, and how many bytes were parts of chunks."""

    def __init__(self, path: Path, spoil: Callable[[int, memoryview], None] = lambda start, into: None) -> None:
        self.path, self.spoil = path, spoil
        self.asked: list[int] = []
        self.parts = 0
        manifest, self._index = make_manifest(path, "sha256:00")
        self.order = Order(manifest.size, manifest.chunk_size, manifest.chunks, manifest.block_size, SEED, SEED_ID)

    def piece(self, start: int, into: memoryview) -> None:
        if len(into) == MIB:
            self.asked.append(start // MIB)
        else:
            self.parts += len(into)
        with self.path.open("rb") as file:
            file.seek(start)
            assert file.readinto(into) == len(into)
        self.spoil(start, into)

    def blocks(self) -> bytes:
        return self._index


def written(disk: Path, server: Server) -> Writer:
    made = Writer(str(disk), server.order, server)
    made.write()
    return made


def boots(disk: Path) -> bool:
    with disk.open("rb") as file:
        return any(file.read(MIB))


def table(disk: Path) -> str:
    command = ["sfdisk", "--verify", "--no-tell-kernel", str(disk)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin", "LC_ALL": "C"}
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("fill", [b"", b"old"])
def test_what_is_on_the_disk_afterwards_is_the_image(tmp_path: Path, fill: bytes) -> None:
    source, disk = image(tmp_path), blank(tmp_path, fill=fill)
    made = written(disk, Server(source))
    content, wanted = disk.read_bytes(), source.read_bytes()
    assert content[MIB : 7 * MIB] == wanted[MIB : 7 * MIB]
    assert content.count(SEED) == 1
    assert made.tally.verified == made.tally.total
    assert "No errors detected" in table(disk), table(disk)


def test_the_same_again_fetches_the_table_only(tmp_path: Path) -> None:
    source, disk = image(tmp_path), blank(tmp_path)
    written(disk, Server(source))
    again = Server(source)
    written(disk, again)
    assert again.asked == [0]


def test_another_image_fetches_what_differs(tmp_path: Path) -> None:
    disk = blank(tmp_path)
    written(disk, Server(image(tmp_path)))
    other = image(tmp_path, name="other")
    with other.open("r+b") as file:
        file.seek(5 * MIB)
        file.write(os.urandom(5000))
        file.seek(4 * MIB)
        file.write(bytes(6000))
    server = Server(other)
    made = written(disk, server)
    assert sorted(server.asked) == [0, 5]
    assert made.tally.zeroed == 1
    assert disk.read_bytes()[MIB : 7 * MIB] == other.read_bytes()[MIB : 7 * MIB]


def shuffled(folder: Path, name: str, blocks: list[bytes]) -> Path:
    """An image with these blocks one after another behind its table."""
    path = image(folder, name=name)
    with path.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(b"".join(blocks))
    return path


@settings(max_examples=8, deadline=None)
@given(data=st.data(), room=st.sampled_from([9, 11, 32]))
def test_blocks_that_lie_elsewhere_do_not_travel(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, room: int
) -> None:
    """Whatever was on the disk, and however little room there is beside the image: the image is on it afterwards."""
    folder = tmp_path_factory.mktemp("moved")
    known = [struct.pack("<H", number) * 2048 for number in range(1, 700)]
    old = data.draw(st.permutations(known))
    cut, new = data.draw(st.integers(0, 699)), data.draw(st.integers(0, 20))
    wanted = old[cut:] + [os.urandom(4096) for _ in range(new)] + old[:cut]
    disk = blank(folder, size=room * MIB)
    written(disk, Server(shuffled(folder, "old", old)))
    other = shuffled(folder, "new", wanted)
    server = Server(other)
    made = written(disk, server)
    assert disk.read_bytes()[MIB : 7 * MIB] == other.read_bytes()[MIB : 7 * MIB]
    assert made.tally.verified == made.tally.total
    if room == 32:
        assert server.asked == [0]
        assert server.parts <= (new + 9 * 8) * 4096
    assert "No errors detected" in table(disk), table(disk)


def test_a_name_that_two_blocks_share_is_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk put together wrongly is fetched as a whole."""
    disk = blank(tmp_path)
    blocks = [bytes([number]) * 4096 for number in range(1, 256)]
    written(disk, Server(shuffled(tmp_path, "old", blocks)))
    other = shuffled(tmp_path, "new", blocks[1:] + blocks[:1])
    server = Server(other)
    lies = struct.pack("<Q", int.from_bytes(hashlib.sha256(blocks[7]).digest()[:8], "little"))
    truth = hashlib.sha256(blocks[9]).digest()[:8]
    monkeypatch.setattr(server, "_index", server.blocks().replace(truth, lies))
    written(disk, server)
    assert sorted(server.asked) == [0, 2]
    assert disk.read_bytes()[MIB : 7 * MIB] == other.read_bytes()[MIB : 7 * MIB]


def test_a_node_that_dies_in_the_middle_boots_nothing_and_goes_on_later(tmp_path: Path) -> None:
    source, disk = image(tmp_path), blank(tmp_path)
    written(disk, Server(image(tmp_path, fill=b"y", name="before")))

    def cut(start: int, into: memoryview) -> None:
        if start >= 4 * MIB:
            raise OSError("cut")

    server = Server(source, cut)
    with pytest.raises(OSError, match="cut"):
        Writer(str(disk), server.order, server, workers=1).write()
    assert not boots(disk)
    rest = Server(source)
    written(disk, rest)
    assert sorted(rest.asked) == [0, 4, 5]
    assert boots(disk)


def test_a_chunk_that_is_not_right_is_never_written(tmp_path: Path) -> None:
    source, disk = image(tmp_path), blank(tmp_path)

    def spoil(start: int, into: memoryview) -> None:
        if start == 4 * MIB:
            into[77] ^= 1

    with pytest.raises(WriteFailed, match="chunk 4 came with the wrong content"):
        written(disk, Server(source, spoil))
    content = disk.read_bytes()
    assert not any(content[4 * MIB : 5 * MIB])
    assert not boots(disk)


def test_a_medium_that_does_not_keep_what_is_written_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, disk = image(tmp_path), blank(tmp_path)
    put = Medium.put_buffer

    def rotten(medium: Medium, at: int, view: memoryview) -> None:
        if at == 5 * MIB:
            view[77] ^= 1
        put(medium, at, view)

    monkeypatch.setattr(Medium, "put_buffer", rotten)
    with pytest.raises(WriteFailed, match="chunk 5 is not on the medium"):
        written(disk, Server(source))
    assert not boots(disk)


def test_a_disk_that_is_too_small_keeps_what_it_has(tmp_path: Path) -> None:
    source, disk = image(tmp_path), blank(tmp_path, size=7 * MIB + 512 * 40, fill=b"old!")
    before = hashlib.sha256(disk.read_bytes()).digest()
    with pytest.raises(BadTable, match="the image, its seed"):
        written(disk, Server(source))
    assert hashlib.sha256(disk.read_bytes()).digest() == before


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return image(tmp_path_factory.mktemp("gpt")).read_bytes()[:MIB]


@given(
    flips=st.lists(
        st.tuples(st.integers(512, 34 * 512 - 1).filter(lambda at: not 604 <= at < 1024), st.integers(1, 255)),
        min_size=1, max_size=3, unique_by=lambda flip: flip[0],
    )
)  # fmt: skip
def test_a_table_with_a_flipped_bit_is_refused(head: bytes, flips: list[tuple[int, int]]) -> None:
    spoiled = bytearray(head)
    for at, bits in flips:
        spoiled[at] ^= bits
    with pytest.raises(BadTable):
        move(bytes(spoiled), 32 * MIB, 4096, SEED_ID)


def test_a_disk_without_a_table_is_refused() -> None:
    with pytest.raises(BadTable, match="no GUID partition table"):
        move(bytes(MIB), 32 * MIB, 4096, SEED_ID)


@pytest.mark.parametrize("full", [False, True])
def test_a_wiped_disk_boots_nothing(tmp_path: Path, full: bool) -> None:
    disk = blank(tmp_path, fill=b"data")
    wipe(str(disk), full=full)
    content = disk.read_bytes()
    assert not any(content[:MIB])
    assert not any(content[-MIB:])
    assert any(content) is not full


DISKS: list[dict[str, Any]] = [
    {"name": "sda", "serial": "A1", "wwn": "", "model": "M", "size": 8 * 1024**3, "rotational": False},
    {"name": "sdb", "serial": "A2", "wwn": "", "model": "M", "size": 4 * 1024**3, "rotational": True},
]


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"serial": "A1"}, "sda"),
        ({"size": ">=5GiB"}, "sda"),
        ({"size": "<=5GiB"}, "sdb"),
        ({"size": "4GiB"}, "sdb"),
        ({"rotational": True}, "sdb"),
    ],
)
def test_the_one_disk_that_matches(asked: dict[str, Any], name: str) -> None:
    assert select(DISKS, asked)["name"] == name


@pytest.mark.parametrize(
    "asked", [{}, {"model": "M"}, {"serial": "A3"}, {"serial": "A1", "rotational": True}, {"size": "much"}]
)
def test_not_exactly_one_disk_is_an_error_that_names_them(asked: dict[str, Any]) -> None:
    with pytest.raises(NoSuchDisk, match="sda: serial A1"):
        select(DISKS, asked)


def test_disks_are_read_from_sysfs(tmp_path: Path) -> None:
    for name, files in {
        "vda": {"size": "16", "serial": "root", "queue/rotational": "1", "ro": "0"},
        "sda": {"size": "32", "device/vpd_pg80": "\0\x80\0\4WX12", "device/model": "Disk ", "queue/rotational": "0"},
        "loop0": {"size": "1"},
    }.items():
        for file, text in files.items():
            path = tmp_path / "block" / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode("latin-1"))
    found = {disk["name"]: disk for disk in list_disks(tmp_path)}
    assert set(found) == {"vda", "sda"}
    assert (found["vda"]["serial"], found["vda"]["size"], found["vda"]["rotational"]) == ("root", 16 * 512, True)
    assert (found["sda"]["serial"], found["sda"]["model"]) == ("WX12", "Disk")


def test_a_controller_with_nothing_below_it_is_idle(tmp_path: Path) -> None:
    """It has a driver, it stores or carries data by its class, and no disk or card hangs on it; a CD is none."""
    kinds = {
        "00:01.0": "0x060400",
        "00:02.0": "0x010601",
        "00:03.0": "0x010802",
        "00:04.0": "0x020000",
        "00:05.0": "0x010700",
    }
    listed = tmp_path / "bus/pci/devices"
    listed.mkdir(parents=True)
    for name, kind in kinds.items():
        device = tmp_path / "devices/pci0000:00" / f"0000:{name}"
        device.mkdir(parents=True)
        (device / "class").write_text(kind)
        if name != "00:05.0":
            (device / "driver").touch()
        (listed / device.name).symlink_to(device)
    for link, target in {
        "block/sr0": "00:02.0/ata1",
        "block/nvme0n1": "00:03.0/nvme0",
        "class/net/eth0": "00:04.0/net",
    }.items():
        below = tmp_path / "devices/pci0000:00" / f"0000:{target}"
        below.mkdir()
        (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / link).symlink_to(below)
    assert idle_controllers(tmp_path) == ["0000:00:02.0"]


class TestPlan:
    """A plan is obeyed only when it is signed, for this machine and attempt, and fresh."""

    OWN: ClassVar = {"uuid": "u-1", "token": "t-1"}
    PLAN: ClassVar = {"uuid": "U-1", "token": "t-1", "expires": 100.0}

    def answer(self, tmp_path: Path, plan: dict[str, Any], *, spoil: bool = False) -> tuple[dict[str, str], Path]:
        import base64
        import json

        keys = make_keys()
        data = json.dumps(plan).encode()
        signature = keys.sign(data)
        if spoil:
            data = data.replace(b"u", b"v", 1)
        (tmp_path / "key.pem").write_text(keys.public)
        answer = {"plan": base64.b64encode(data).decode(), "signature": base64.b64encode(signature).decode()}
        return answer, tmp_path / "key.pem"

    def test_a_good_one(self, tmp_path: Path) -> None:
        assert agent.accept(*self.answer(tmp_path, self.PLAN), self.OWN, 99.0) == self.PLAN

    @pytest.mark.parametrize(
        ("change", "now", "why"),
        [({"uuid": "other"}, 99.0, "for machine"), ({"token": "old"}, 99.0, "another attempt"), ({}, 101.0, "expired")],
    )
    def test_another_ones_or_an_old_one(self, tmp_path: Path, change: dict[str, str], now: float, why: str) -> None:
        with pytest.raises(agent.Refused, match=why):
            agent.accept(*self.answer(tmp_path, {**self.PLAN, **change}), self.OWN, now)

    def test_a_changed_one(self, tmp_path: Path) -> None:
        with pytest.raises(agent.Refused, match="signature"):
            agent.accept(*self.answer(tmp_path, self.PLAN, spoil=True), self.OWN, 99.0)

    def test_the_root_disk_is_never_one_to_keep(self) -> None:
        plan = {"root_disk": {"serial": "A1"}, "keep": [{"model": "M", "rotational": False}], "action": "write"}
        with pytest.raises(agent.Refused, match="both the root disk and one to keep"):
            agent.obey(plan, DISKS, lambda _: None)


def test_what_runs_on_nodes_uses_what_is_there() -> None:
    """No import beyond the standard library: there is nothing else in the installer, nor in an image."""
    import ast
    import sys

    for path in Path(str(writer.__file__)).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert all(name.split(".")[0] in sys.stdlib_module_names for name in names), (path.name, names)
    assert os.O_DIRECT
