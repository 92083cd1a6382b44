"""What is shipped for authors, on what runs without an engine: the local platform, files of images, a fleet in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certify.deploy.plan import Release
from certify.images.candidate import Transport
from certify.images.files import ImageFiles
from certify.images.oci import Directory, LayoutTransport
from certify.images.reference import parse
from certify.images.rootfs import RootFilesystem
from certify.nodes.platform import PlatformKind, PlatformSettings
from certify.testing.contracts import FleetDriverContract, ImageFilesContract, PlatformContract, TransportContract
from certify.testing.local import FakeSource, LocalPlatform
from tests.unit.deploy.samples import NEW, MemoryFleet
from tests.unit.images.imagefiles import image, layout


class TestTheLocalPlatform(PlatformContract):
    @pytest.fixture
    def kind(self) -> PlatformKind:
        return PlatformKind("container", PlatformSettings(), frozenset({"reboot"}))

    @pytest.fixture
    def platform(self) -> LocalPlatform:
        return LocalPlatform()

    @pytest.fixture
    def source(self) -> FakeSource:
        return FakeSource()


class TestAFleetInMemory(FleetDriverContract):
    @pytest.fixture
    def driver(self) -> MemoryFleet:
        return MemoryFleet({})

    @pytest.fixture
    def instance(self) -> str:
        return "web-0"

    @pytest.fixture
    def source(self) -> FakeSource:
        return FakeSource()

    @pytest.fixture
    def release(self) -> Release:
        return NEW


@pytest.fixture
def where(tmp_path: Path) -> Path:
    """A layout of an image with one file."""
    blobs, descriptor = image(name="etc/passwd")
    return layout(tmp_path / "image", blobs, [descriptor])


class TestLayouts(TransportContract):
    @pytest.fixture
    def transport(self) -> Transport:
        return LayoutTransport("oci", Directory)

    @pytest.fixture
    def reference(self, where: Path) -> str:
        return f"oci:{where}"

    @pytest.fixture
    def missing(self, tmp_path: Path) -> str:
        return f"oci:{tmp_path}/nowhere"


class TestLayers(ImageFilesContract):
    @pytest.fixture
    def files(self, where: Path) -> Iterator[ImageFiles]:
        with RootFilesystem(LayoutTransport("oci", Directory).open(parse(f"oci:{where}"))) as found:
            yield found
