"""What a container is started with: hardened, and exactly what its mode needs beyond that."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from certify.errors import ShellUnavailable
from certify.images.candidate import ImageConfig
from certify.testing.local import FakeSource
from certify_docker.boot_mode import plan
from certify_docker.busybox import archive, is_static_for
from certify_docker.cgroup import Engine
from certify_docker.platform import host_name
from certify_docker.settings import ContainerSettings


def candidate_with(*command: str):  # type: ignore[no-untyped-def]
    return replace(FakeSource().candidate, config=ImageConfig(cmd=command))


ENGINE = Engine("1", "cgroupfs")


@pytest.mark.parametrize("command", [("/sbin/init",), ("/serve",), ()])
def test_nothing_is_ever_privileged(command: tuple[str, ...]) -> None:
    host = plan(candidate_with(*command), ContainerSettings(), engine=ENGINE, container="c").host
    assert "privileged" not in host
    assert "cap_add" not in host
    assert host["mem_limit"] == 1024**3
    assert host["cap_drop"] == ["MKNOD", "NET_RAW"]
    assert ("security_opt" in host) == (command != ("/sbin/init",))


@pytest.mark.parametrize(
    ("engine", "mounted"),
    [
        (Engine("1", "cgroupfs"), r"/sys/fs/cgroup/systemd/certify[0-9a-f]{16}"),
        (Engine("2", "cgroupfs"), r"/sys/fs/cgroup/certify[0-9a-f]{16}"),
        (Engine("2", "systemd"), r"/sys/fs/cgroup/certify[0-9a-f]{16}\.slice"),
    ],
)
def test_an_init_gets_a_control_group_of_its_own_and_no_more(engine: Engine, mounted: str) -> None:
    host = plan(candidate_with("/sbin/init"), ContainerSettings(), engine=engine, container="c").host
    [bind] = host["binds"]
    source, target, mode = bind.split(":")
    assert source == target
    assert mode == "rw"
    assert re.fullmatch(mounted, source)
    assert source.endswith(host["cgroup_parent"].strip("/"))
    other = plan(candidate_with("/sbin/init"), ContainerSettings(), engine=engine, container="d").host
    assert other["cgroup_parent"] != host["cgroup_parent"]


@pytest.mark.parametrize(
    ("user", "keeps"), [("", True), ("0", True), ("root", True), ("app", False), ("1000:0", False)]
)
def test_root_keeps_its_capabilities_beside_an_unprivileged_process_1(user: str, keeps: bool) -> None:
    """No new privileges means for good: a root beside a process 1 of another user could read nothing but its own files."""
    candidate = candidate_with("/serve")
    candidate = replace(candidate, config=replace(candidate.config, user=user))
    host = plan(candidate, ContainerSettings(), engine=ENGINE, container="c").host
    assert ("security_opt" in host) == keeps


@pytest.mark.parametrize(
    ("node", "name"),
    [("app_x:1-container", "app-x-1-container"), ("a.b_c-", "a-b-c"), ("x" * 80, "x" * 63), ("_a", "a")],
)
def test_a_host_name_is_one_that_no_init_rewrites(node: str, name: str) -> None:
    """systemd writes ``_`` as ``-``: then the name in /etc/hosts is another, and sudo waits for it 20 seconds."""
    assert host_name(node) == name


def test_the_lent_busybox_must_be_static_and_fit(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    archive.cache_clear()
    monkeypatch.setenv("CERTIFY_BUSYBOX", "/bin/ls")
    with pytest.raises(ShellUnavailable, match="no static amd64 program"):
        archive("amd64")
    monkeypatch.setenv("CERTIFY_BUSYBOX", "/usr/bin/busybox")
    with pytest.raises(ShellUnavailable, match="no static s390x program"):
        archive("s390x")
    monkeypatch.delenv("CERTIFY_BUSYBOX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ShellUnavailable, match="no busybox to lend"):
        archive("amd64")


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF" + b"\xff" * 100])
def test_what_is_no_program_is_no_static_program(data: bytes) -> None:
    assert not is_static_for(data, "amd64")
