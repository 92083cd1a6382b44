"""What a container is started with: hardened, and exactly what its mode needs beyond that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from certify.config import ContainerPlatform
from certify.errors import ShellUnavailable
from certify.images.candidate import ImageConfig
from certify_docker.boot_mode import plan
from certify_docker.busybox import archive, is_static_for
from tests.fakes import FakeSource


def candidate_with(*command: str):  # type: ignore[no-untyped-def]
    return replace(FakeSource().candidate, config=ImageConfig(cmd=command))


@pytest.mark.parametrize("command", [("/sbin/init",), ("/serve",), ()])
def test_nothing_is_ever_privileged(command: tuple[str, ...]) -> None:
    host = plan(candidate_with(*command), ContainerPlatform(), cgroup_version="1").host
    assert "privileged" not in host
    assert host["mem_limit"] == 1024**3
    assert host["cap_drop"] == ["MKNOD", "NET_RAW"]
    assert ("security_opt" in host) == (command != ("/sbin/init",))


def test_an_init_gets_what_systemd_needs_and_no_more() -> None:
    first = plan(candidate_with("/sbin/init"), ContainerPlatform(), cgroup_version="1")
    assert (first.host["cap_add"], first.host["cgroupns"]) == (["SYS_ADMIN"], "private")
    assert "binds" not in first.host
    second = plan(candidate_with("/sbin/init"), ContainerPlatform(), cgroup_version="2")
    assert second.host["binds"] == ["/sys/fs/cgroup:/sys/fs/cgroup:rw"]


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
