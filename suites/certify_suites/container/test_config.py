"""What the image's config says, read without booting it (OCI image-spec, config.md)."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pytest

from certify.images.candidate import Candidate

pytestmark = pytest.mark.platform("container")


@pytest.mark.needs("service")
@pytest.mark.control("CIS-DOCKER-4.1")
def test_user_is_declared(image: Candidate) -> None:
    """Without USER the service starts as root wherever nobody overrides it."""
    assert image.config.user.split(":")[0] not in ("", "0", "root")


@pytest.mark.needs("service")
def test_entrypoint_is_no_shell_line(image: Candidate) -> None:
    """``sh -c`` as process 1 keeps signals from the service."""
    command = image.config.command
    assert not (
        len(command) > 1 and PurePosixPath(command[0]).name in ("sh", "bash", "ash", "dash") and command[1] == "-c"
    )


def test_required_labels_are_there(image: Candidate, settings: dict[str, Any]) -> None:
    """Whoever finds the image running should find out what it is (OCI image-spec, annotations.md)."""
    assert sorted(set(settings["labels_required"]) - {name for name, _ in image.config.labels}) == []


def test_paths_are_absolute(image: Candidate) -> None:
    """A relative program or working directory depends on who starts it."""
    relative = [p for p in (image.config.command[:1]) if "/" in p and not p.startswith("/")]
    assert [
        *relative,
        *([image.config.workdir] if image.config.workdir and not image.config.workdir.startswith("/") else []),
    ] == []


def test_no_volume_hides_the_system(image: Candidate) -> None:
    """A volume over a system directory replaces what was tested by what was there before."""
    assert [
        v
        for v in image.config.volumes
        if v.rstrip("/") in ("", "/etc", "/usr", "/bin", "/lib", "/sbin", "/opt", "/boot")
    ] == []


def test_ports_are_well_formed(image: Candidate) -> None:
    """A port that cannot be parsed is silently not published."""
    bad = []
    for port in image.config.ports:
        number, _, protocol = port.partition("/")
        if not number.isdigit() or not 0 < int(number) < 65536 or protocol not in ("tcp", "udp", "sctp"):
            bad.append(port)
    assert bad == []
