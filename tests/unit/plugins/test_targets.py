"""Which platform boots a candidate, and by which driver."""

from __future__ import annotations

from dataclasses import replace

import pytest

from certify.errors import UsageError
from certify.nodes.platform import PlatformKind, PlatformSettings
from certify.testing.local import FakeSource, LocalPlatform
from pytest_certify.targets import choose


class Podman(LocalPlatform):
    driver = "podman"


def kind(name: str, *images: str) -> PlatformKind:
    return PlatformKind(name, PlatformSettings(), frozenset(), frozenset(images))


KINDS = {"container": kind("container", "oci"), "vm": kind("vm", "disk")}


def test_the_driver_that_is_asked_for_boots() -> None:
    for asked in ("podman", "fake"):
        platforms = [LocalPlatform(), Podman()]
        for platform in platforms:
            platform.settings = PlatformSettings(driver=asked)
        [target] = choose([FakeSource()], platforms, KINDS, [])
        assert target.platform.driver == asked


def test_a_driver_that_is_not_there_is_a_mistake() -> None:
    platform = LocalPlatform()
    platform.settings = PlatformSettings(driver="podmna")
    with pytest.raises(UsageError, match=r"platforms\.container\.driver: there is no 'podmna'") as caught:
        choose([FakeSource()], [platform], KINDS, [])
    assert caught.value.hint == "installed: fake"


def test_a_platform_without_its_libraries_is_no_unknown_one() -> None:
    with pytest.raises(UsageError, match="platform vm: its driver's libraries are not installed"):
        choose([FakeSource()], [LocalPlatform()], KINDS, ["vm"])
    with pytest.raises(UsageError, match="--platform vmm: no such platform") as caught:
        choose([FakeSource()], [LocalPlatform()], KINDS, ["vmm"])
    assert caught.value.hint == "did you mean vm?"


def test_an_image_that_no_platform_is_first_for_wants_one_named() -> None:
    source = FakeSource()
    source.candidate = replace(source.candidate, kind="tape")
    with pytest.raises(UsageError, match="no platform boots tape images by itself"):
        choose([source], [LocalPlatform()], KINDS, [])
    assert len(choose([source], [LocalPlatform()], KINDS, ["container"])) == 1
