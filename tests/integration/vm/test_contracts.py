"""The vm platform, paths of disks and what reads them pass the authors' contracts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certify.config import Images
from certify.images.candidate import ImageSource, Transport
from certify.images.files import ImageFiles
from certify.images.reference import parse
from certify.nodes.platform import Platform, PlatformKind
from certify.testing.contracts import ImageFilesContract, PlatformContract, TransportContract
from certify_disk.transport import DiskTransport
from certify_libvirt.platform import LibvirtPlatform
from certify_libvirt.settings import VM, VmSettings
from tests.images.builder import CACHE

GOOD = CACHE / "disk-good.qcow2"


@pytest.mark.deep
class TestMachines(PlatformContract):
    @pytest.fixture
    def kind(self) -> PlatformKind:
        return VM

    @pytest.fixture
    def platform(self) -> Platform:
        return LibvirtPlatform(VmSettings(), Images())

    @pytest.fixture
    def source(self) -> ImageSource:
        return DiskTransport(Images()).open(parse(str(GOOD)))


class TestPathsOfDisks(TransportContract):
    @pytest.fixture
    def transport(self) -> Transport:
        return DiskTransport(Images())

    @pytest.fixture
    def reference(self) -> str:
        return str(GOOD)

    @pytest.fixture
    def missing(self, tmp_path: Path) -> str:
        return f"{tmp_path}/nowhere.qcow2"


class TestTheirFiles(ImageFilesContract):
    @pytest.fixture
    def files(self) -> Iterator[ImageFiles]:
        found = DiskTransport(Images()).open(parse(str(GOOD))).files(Images())
        yield found
        found.close()
