"""Which platform boots a candidate, and by which driver."""

from __future__ import annotations

from collections.abc import Sequence
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
    with pytest.raises(UsageError, match="no platform is first for tape images"):
        choose([source], [LocalPlatform()], KINDS, [])
    assert len(choose([source], [LocalPlatform()], KINDS, ["container"])) == 1


def ids(*names: str, tags: Sequence[str | None] = "12", digests: str = "ab") -> list[str]:
    sources = [FakeSource(name, f"sha256:{digest * 64}") for name, digest in zip(names, digests, strict=False)]
    for source, tag in zip(sources, tags, strict=False):
        source.candidate = replace(source.candidate, reference=replace(source.candidate.reference, tag=tag))
    platform = LocalPlatform()
    platform.settings = PlatformSettings(driver="fake")
    return [target.id for target in choose(sources, [platform], KINDS, [])]


def test_a_check_is_called_the_same_from_one_build_to_the_next() -> None:
    assert ids("app", tags="1") == ids("app", tags="2") == ["app-container"]
    assert ids("app", "web") == ["app-container", "web-container"]
    assert ids("app", "app") == ["app:1-container", "app:2-container"]
    assert ids("disk.qcow2", tags=[None]) == ["disk.qcow2-container"]
    assert ids("app", "app", tags="11") == ["app:1@aaaaaaaa-container", "app:1@bbbbbbbb-container"]


def test_what_reports_show_of_a_target_is_no_address() -> None:
    [target] = choose([FakeSource()], [LocalPlatform()], KINDS, [])
    assert repr(target) == target.id == "app-container"


def test_two_plugins_that_drive_one_platform_are_a_mistake() -> None:
    """Whichever came first would boot, and evidence would name the other's driver."""
    with pytest.raises(UsageError, match="two installed plugins drive container by 'fake'"):
        choose([FakeSource()], [LocalPlatform(), LocalPlatform()], KINDS, [])


def test_no_plugin_takes_the_place_of_the_platform_that_boots_first() -> None:
    with pytest.raises(UsageError, match="container and moon are both first for oci images"):
        choose([FakeSource()], [LocalPlatform()], {**KINDS, "moon": kind("moon", "oci")}, [])
