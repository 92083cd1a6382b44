"""The container platform, the engine's images, registries' files and the docker fleet driver pass the authors' contracts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from certify.config import Config, Fleet, Health, Images, Instance
from certify.deploy.driver import FleetDriver
from certify.deploy.plan import Release
from certify.images.candidate import ImageSource, Transport
from certify.images.files import ImageFiles
from certify.images.reference import parse
from certify.nodes.platform import Platform, PlatformKind
from certify.testing.contracts import FleetDriverContract, ImageFilesContract, PlatformContract, TransportContract
from certify_docker.deploy import DockerDeployDriver
from certify_docker.platform import DockerPlatform
from certify_docker.settings import CONTAINER, ContainerSettings
from certify_docker.transport import DaemonTransport
from tests.integration.conftest import DEMO, free_port


@pytest.fixture(params=["scratch", "good"])
def source(request: pytest.FixtureRequest) -> ImageSource:
    """An image without a shell of its own, and one with systemd."""
    return DaemonTransport().open(parse(f"{DEMO}{request.param}"))


class TestContainers(PlatformContract):
    @pytest.fixture
    def kind(self) -> PlatformKind:
        return CONTAINER

    @pytest.fixture
    def platform(self) -> Platform:
        return DockerPlatform(ContainerSettings())


class TestTheEnginesImages(TransportContract):
    @pytest.fixture
    def transport(self) -> Transport:
        return DaemonTransport()

    @pytest.fixture
    def reference(self) -> str:
        return f"{DEMO}good"

    @pytest.fixture
    def missing(self) -> str:
        return f"{DEMO}no-such-tag"


class TestTheirFiles(ImageFilesContract):
    @pytest.fixture
    def files(self) -> Iterator[ImageFiles]:
        found = DaemonTransport().open(parse(f"{DEMO}good")).files(Images())
        yield found
        found.close()


class TestFleetsOfContainers(FleetDriverContract):
    @pytest.fixture
    def source(self) -> ImageSource:
        return DaemonTransport().open(parse(f"{DEMO}good"))

    @pytest.fixture
    def instance(self) -> str:
        return "one"

    @pytest.fixture
    def driver(self, instance: str, tmp_path: Path) -> FleetDriver:
        port = free_port()
        member = Instance(name=instance, publish={str(port): 8080})
        fleet = Fleet(fleet=f"contract-{port}", instances=[member], health=Health(port=8080, soak="200ms"))
        return DockerDeployDriver().bind(fleet, Config(evidence=str(tmp_path)))

    @pytest.fixture
    def release(self, source: ImageSource) -> Release:
        candidate = source.candidate
        uri = f"docker-daemon:{candidate.config_digest}"
        return Release(digest=candidate.digest, config_digest=candidate.config_digest, resource_uri=uri)
