"""The parts of the libvirt driver that need no hypervisor: access scripts, domain XML, the probe, the snapshot cache."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import libvirt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.errors import EngineUnavailable
from certify.images.store import Store
from certify_lab.domain import node_xml
from certify_libvirt.acceleration import boot_sector
from certify_libvirt.access import MARKER, bootstrap, credentials, shell_ports, typed, vendor_data
from certify_libvirt.domain import NodeFiles, Profile, domain_xml, marks_xml
from certify_libvirt.hypervisor import marks_of
from certify_libvirt.snapshot import SnapshotCache, _sparse_digest, in_use

WAYS = ("credentials", "agent")


def test_the_credential_places_units_and_says_so() -> None:
    name, _, value = credentials()[0].partition("=")
    text = base64.b64decode(value).decode()
    assert name == "io.systemd.credential.binary:tmpfiles.extra"
    assert MARKER in text.splitlines()[-1]
    assert all(line[:2] in ("d ", "f+", "w ") for line in text.splitlines())
    assert all(" /run/" in line or "/dev/ttyS0" in line for line in text.splitlines())


def test_the_scripts_are_valid_shell() -> None:
    for script in (bootstrap(), vendor_data()):
        assert subprocess.run(["sh", "-n"], input=script, text=True).returncode == 0


def test_what_is_typed_fits_a_terminal_line() -> None:
    assert max(len(answer) for _, answer in typed("root", "secret")) < 1024


def test_the_probe_is_a_boot_sector() -> None:
    sector = boot_sector(1000)
    assert (len(sector), sector[-2:]) == (512, b"\x55\xaa")


@pytest.mark.parametrize("firmware", ["bios", "uefi", "uefi-secure"])
def test_the_domain_is_well_formed(firmware: str) -> None:
    profile = Profile("kvm", firmware, 2**30, 2, 2, "internal", "/k&ernel", "/initrd", "root=/dev/vda <x>", WAYS)
    files = NodeFiles(
        disk="/d'isk", seed="/seed", data="/data", nvram="/nvram", sockets="/s", ram="/ram", incoming=True
    )
    tree = ET.fromstring(domain_xml("n", profile, files, ""))
    assert tree.get("type") == "kvm"
    assert [disk.find("source").get("file") for disk in tree.iter("disk")] == ["/d'isk", "/data", "/seed"]  # type: ignore[union-attr]
    assert [disk.find("driver").get("type") for disk in tree.iter("disk")] == ["qcow2", "qcow2", "raw"]  # type: ignore[union-attr]
    names = [channel.find("target").get("name") for channel in tree.iter("channel")]  # type: ignore[union-attr]
    assert {port.both for port in shell_ports()} <= set(names)
    arguments = [argument.get("value") for argument in tree.iter("{http://libvirt.org/schemas/domain/qemu/1.0}arg")]
    assert arguments.count("-netdev") == 2
    assert all("restrict=on" in a for a in arguments if a and a.startswith("user,"))
    assert "share=off" in next(a for a in arguments if a and "mem-path" in a)


def test_what_is_written_into_a_domain_is_read_from_it() -> None:
    marks = {"uri": "qcow2:/a.qcow2?x=1&y=<2>", "instance": "w'e\"b", "empty": ""}
    metadata = f"<metadata>{marks_xml('instance', 'https://x', marks)}</metadata>"
    rest = "<memory>1000</memory><os><type>hvm</type></os>"
    connection = libvirt.open("test:///default")
    domain = connection.defineXML(f"<domain type='test'><name>n</name>{metadata}{rest}</domain>")
    assert marks_of(domain, "https://x") == marks
    assert marks_of(domain, "https://y") == {}
    element, changed = libvirt.VIR_DOMAIN_METADATA_ELEMENT, {**marks, "empty": "&"}
    domain.setMetadata(
        element, marks_xml("instance", "", changed), "certify", "https://x", libvirt.VIR_DOMAIN_AFFECT_CONFIG
    )
    assert marks_of(domain, "https://x") == changed


def test_only_emulation_has_a_buffer_of_translations() -> None:
    """A guest that resets finds little left in it: firmware was seen standing still on what was."""
    emulated, accelerated = (
        ET.fromstring(domain_xml("n", Profile(kind, "uefi", 2**30, 2, 1, "user"), NodeFiles(disk="/d"), ""))
        for kind in ("tcg", "kvm")
    )
    assert emulated.findtext("features/tcg/tb-cache") == "64"
    assert accelerated.find("features/tcg") is None
    lab = ET.fromstring(node_xml("n", "u", Path("/f"), Path("/n"), kvm=False))
    assert lab.findtext("features/tcg/tb-cache") == "64"


def test_a_machine_that_serves_has_no_way_in() -> None:
    text = domain_xml("n", Profile("tcg", "bios", 2**30, 2, 1, "user"), NodeFiles(disk="/d", forwards={8080: 80}), "")
    assert "io.systemd.credential" not in text
    assert list(ET.fromstring(text).iter("channel")) == []
    assert "hostfwd=tcp:127.0.0.1:8080-:80" in text


def _snapshot(cache: SnapshotCache, key: str, ram: bytes = b"memory") -> Path:
    partial = cache.begin(key)
    for name in ("ram", "device", "disk"):
        (partial / name).write_bytes(ram)
    return cache.finish(key, 1.0, b"console").folder


def test_a_snapshot_is_found_again(tmp_path: Path) -> None:
    cache = SnapshotCache(Store(tmp_path), 10**9)
    _snapshot(cache, "a")
    found = cache.find("a")
    assert found is not None
    assert (found.ready_seconds, found.console) == (1.0, b"console")
    assert cache.find("b") is None


@pytest.mark.parametrize("part", ["ram", "device", "disk"])
def test_a_damaged_snapshot_is_removed(tmp_path: Path, part: str) -> None:
    cache = SnapshotCache(Store(tmp_path), 10**9)
    folder = _snapshot(cache, "a")
    (folder / part).write_bytes(b"mEmory")
    assert cache.find("a") is None
    assert not folder.exists()


def test_a_half_made_snapshot_is_none(tmp_path: Path) -> None:
    cache = SnapshotCache(Store(tmp_path), 10**9)
    (cache.begin("a") / "ram").write_bytes(b"x")
    assert cache.find("a") is None


def test_the_longest_unused_goes_first_and_one_in_use_stays(tmp_path: Path) -> None:
    cache = SnapshotCache(Store(tmp_path), 700_000)
    for age, key in enumerate(("old", "used", "young")):
        folder = _snapshot(cache, key, os.urandom(65536))
        os.utime(folder / "meta.json", (1000 + age, 1000 + age))
    used = cache.find("used")
    assert used is not None
    with in_use(used):
        os.utime(used.folder / "meta.json", (1, 1))
        _snapshot(cache, "new", os.urandom(65536))
    assert not (tmp_path / "snapshots/old").exists()
    assert (tmp_path / "snapshots/used").exists()
    assert (tmp_path / "snapshots/new").exists()


@given(st.lists(st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=40)), max_size=6), st.booleans())
def test_the_digest_sees_data_and_not_how_it_is_stored(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, bytes]], flip: bool
) -> None:
    folder = tmp_path_factory.mktemp("digest")
    size = 50 * 4096
    plain = bytearray(size)
    with (folder / "sparse").open("wb") as file:
        file.truncate(size)
        for page, data in pieces:
            file.seek(page * 4096)
            file.write(data)
            plain[page * 4096 : page * 4096 + len(data)] = data
    (folder / "plain").write_bytes(plain)
    assert _sparse_digest(folder / "sparse") == _sparse_digest(folder / "plain")
    if flip:
        plain[12345] ^= 1
        (folder / "plain").write_bytes(plain)
        assert _sparse_digest(folder / "sparse") != _sparse_digest(folder / "plain")


def test_a_server_that_accepts_and_hangs_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ssh server that is stuck, or something else on its port."""
    from certify_libvirt import hypervisor

    monkeypatch.setattr(hypervisor, "_CONNECT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"qemu+ssh://nobody@127.0.0.1:{server.getsockname()[1]}/system?no_verify=1&no_tty=1"
        with pytest.raises(EngineUnavailable, match="no answer within 1 s"):
            hypervisor.connect(uri, Store(tmp_path))
