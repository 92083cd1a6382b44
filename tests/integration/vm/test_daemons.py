"""Hypervisors behind a daemon: remote ones over ssh, and fleets of machines."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.images.builder import CACHE
from tests.integration.conftest import Workspace, free_port, wait_for
from tests.integration.vm.conftest import UserDaemon, virsh
from tests.integration.vm.test_machines import GOOD, LONG, suite

#: A daemon that may not use /dev/kvm learns QEMU's capabilities anew for every guest, which takes minutes.
slow = pytest.mark.slow


@slow
def test_a_remote_hypervisor_over_ssh(work: Workspace, daemon: str, over_ssh: str) -> None:
    """The disk travels to a pool, the console and every command travel back."""
    work.write("certify.yaml", f'platforms: {{vm: {{uri: "{over_ssh}", acceleration: tcg, pool: {daemon}}}}}\n')
    text = """
def test_it(node):
    assert node.how.boot == "cold"
    assert node.run("id -u").text == "0"
    assert len(node.run("head -c 300000 /dev/zero").stdout) == 300000
    assert b"Linux version" in node.console()
"""
    done = work.pytest("--image", str(GOOD), "--suite", suite(work, text), timeout=LONG)
    assert done.status == 0, done.out
    assert [line for line in virsh("vol-list", daemon).splitlines() if "certify-n" in line] == []
    assert "certify-" not in virsh("list", "--all", "--name")


@slow
@pytest.mark.parametrize("way", ["session", "tls"])
def test_a_daemon_of_an_unprivileged_user(work: Workspace, user_daemon: UserDaemon, way: str) -> None:
    """``qemu:///session`` by its socket, and the same daemon as a remote one over TLS."""
    uri = getattr(user_daemon, way)
    work.write("certify.yaml", f'platforms: {{vm: {{uri: "{uri}", acceleration: tcg, network: user}}}}\n')
    text = (
        "def test_it(node):\n    assert node.run('id -u').text == '0'\n    assert b'Linux version' in node.console()\n"
    )
    done = work.pytest("--image", str(GOOD), "--suite", suite(work, text), timeout=LONG)
    assert done.status == 0, done.out
    assert (
        "certify-"
        not in subprocess.run(["virsh", "-c", uri, "list", "--all", "--name"], capture_output=True, text=True).stdout
    )


@slow
def test_a_lost_connection_is_no_verdict(work: Workspace, daemon: str, over_ssh: str) -> None:
    work.write("certify.yaml", f'platforms: {{vm: {{uri: "{over_ssh}", acceleration: tcg, pool: {daemon}}}}}\n')
    name = suite(work, "def test_waits(node):\n    node.run('sleep 100', timeout=200)\n")
    process = work.start("pytest", "--image", str(GOOD), "--suite", name)
    wait_for(lambda: "ready after" in (work.path / "out.log").read_text(), "the node", 240)
    port = over_ssh.partition("127.0.0.1:")[2].partition("/")[0]
    subprocess.run(["pkill", "-f", f"ssh.*-p {port} "], check=True)
    assert process.wait(200) == 6, (work.path / "out.log").read_text()
    assert work.outcomes()["test_waits"] == "no-verdict"
    work.certify("gc", timeout=120)
    wait_for(lambda: "certify-" not in virsh("list", "--all", "--name"), "gc to remove the machine", 30)


def test_a_pool_that_is_not_there(work: Workspace, daemon: str) -> None:
    work.write("certify.yaml", 'platforms: {vm: {uri: "qemu:///system", pool: nowhere}}\n')
    done = work.pytest("--image", str(GOOD), "--suite", suite(work, "def test_it(node):\n    pass\n"), timeout=LONG)
    assert done.status != 0
    assert "has no storage pool 'nowhere'" in done.text
    assert daemon in done.text


def _version(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


@slow
def test_a_fleet_of_machines_moves_on_and_back(work: Workspace, daemon: str) -> None:
    """v1 is deployed; v2, which never gets healthy, is not; v1 serves all the while."""
    port = free_port()
    (work.path / "v1.qcow2").hardlink_to(GOOD)
    work.write(
        "certify.yaml", "product: machines\nchannels: {staging: {requires: {suites: [tiny], platforms: [vm]}}}\n"
    )
    work.write("tiny/test_tiny.py", "def test_it(node):\n    assert node.run('true').ok\n")
    fleet = (
        "fleet: machines\nproduct: machines\ndriver: libvirt\n"
        "health: {port: 8080, path: /healthz, start_period: START, soak: 300ms}\n"
        f"vm: {{acceleration: tcg, pool: {daemon}, memory: 512MiB}}\n"
        f"instances:\n  - {{name: m-1, publish: {{{port}: 8080}}}}\n"
    )
    work.write("fleet.yaml", fleet.replace("START", "240s"))
    try:
        assert work.certify("init").status == 0
        done = work.pytest("--image", "v1.qcow2", "--suite", "./tiny", "--sign", "--promote", "staging", timeout=LONG)
        assert done.status == 0, done.text
        done = work.certify("deploy", "staging", "--fleet", "fleet.yaml", "--yes", timeout=LONG)
        assert done.status == 0, done.text
        first = _version(port)
        assert first
        assert _deploy_unhealthy(work, fleet) == 1
        assert _version(port) == first
        assert sum(name.startswith("certify-machines-") for name in virsh("list", "--all", "--name").split()) == 1
    finally:
        for name in virsh("list", "--all", "--name").split():
            if name.startswith("certify-machines-"):
                subprocess.run(["virsh", "-c", "qemu:///system", "destroy", name], capture_output=True)
                subprocess.run(["virsh", "-c", "qemu:///system", "undefine", "--nvram", name], capture_output=True)


def _deploy_unhealthy(work: Workspace, fleet: str) -> int:
    """The same disk with another digest, whose health path is never there in time."""
    data = bytearray(Path(GOOD).read_bytes())
    data += bytes(65536)  # behind the last cluster: another file, another digest, the same disk
    (work.path / "v2.qcow2").write_bytes(data)
    done = work.pytest("--image", "v2.qcow2", "--suite", "./tiny", "--sign", "--promote", "staging", timeout=LONG)
    assert done.status == 0, done.text
    work.write("fleet.yaml", fleet.replace("START", "1s"))
    begun = time.monotonic()
    done = work.certify("deploy", "staging", "--fleet", "fleet.yaml", "--yes", timeout=LONG)
    assert time.monotonic() - begun < 120
    assert json.loads(work.certify("rollout", "status", "--json").out)
    return done.status


def test_convert_writes_what_clouds_take_and_signs_both_digests(work: Workspace) -> None:
    (work.path / "base.qcow2").hardlink_to(CACHE / "disk-good.qcow2")
    work.certify("init")
    done = work.certify("convert", "base.qcow2", "base.vhd", "--to", "vhd", "--json")
    assert done.status == 0, done.text
    told = json.loads(done.out)
    envelope = json.loads((work.path / "base.vhd.dsse.json").read_text())
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert "sha256:" + statement["subject"][0]["digest"]["sha256"] == told["digest"]
    assert "sha256:" + statement["predicate"]["origin"]["digest"]["sha256"] == told["origin"]
    again = work.certify("inspect", "base.vhd", "--json")
    assert json.loads(again.out)["digest"] == told["digest"]
    assert json.loads(again.out)["disk"]["format"] == "vhd (fixed)"
    twice = work.certify("convert", "base.qcow2", "base.vhd", "--to", "vhd")
    assert (twice.status, "exists" in twice.err) == (2, True)
    wrong = work.certify("convert", "base.qcow2", "x.iso", "--to", "iso")
    assert (wrong.status, "known: raw" in wrong.err) == (2, True)
