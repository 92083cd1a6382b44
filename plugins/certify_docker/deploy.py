"""Rollouts on docker engines: implements :class:`certify.deploy.driver.DeployDriver`.

An instance is one container that publishes its ports on the host's loopback (or wherever ``publish`` says). A port can
belong to one container only, so the new image is first proven in a *proof* container on a port of its own, while the old
one serves; then the old one is stopped and held, and the new one starts in its place.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlparse

from certify.config import Config, Fleet, Instance
from certify.deploy.health import AGAIN_AND_AGAIN, Sight, ask, steadily, wait_healthy, watch
from certify.deploy.plan import PlannedInstance, Release
from certify.errors import NodeLost, RolloutError
from certify.images.candidate import Candidate, ImageSource
from certify.nodes.owner import this_process
from certify_docker.boot_mode import plan
from certify_docker.cgroup import Engine
from certify_docker.engine import OWNER_LABEL, connect, translated
from certify_docker.load import ensure_image
from certify_docker.machine import remove_container
from certify_docker.settings import ContainerSettings
from certify_docker.transport import candidate_of

_FLEET, _INSTANCE, _ROLE = "dev.certify.fleet", "dev.certify.instance", "dev.certify.role"
_DIGEST, _URI = "dev.certify.digest", "dev.certify.resource-uri"
_PROOF, _SERVING = "proof", "serving"
_STOP_SECONDS = 10


class DockerDeployDriver:
    """``driver: docker`` in ``fleet.yaml``."""

    name = "docker"

    def bind(self, fleet: Fleet, config: Config) -> DockerFleet:
        del config
        return DockerFleet(fleet)


class DockerFleet:
    """Implements :class:`certify.deploy.driver.FleetDriver`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._settings = fleet.section("platform", ContainerSettings())
        self._instances = {instance.name: instance for instance in fleet.instances}
        self._clients: dict[str | None, Any] = {}

    def running(self, instance: str) -> Release | None:
        for found in self._containers(instance, _SERVING):
            if found["State"] == "running":
                return _release(found)
        return None

    def provision(self, instance: PlannedInstance, source: ImageSource, release: Release) -> str:
        client = self._client(instance.name)
        ensure_image(client, source, lambda _: None)
        self._start(instance.name, self._ensure(instance.name, release, _PROOF))
        return f"{release.digest[:19]} boots beside the old one"

    def validate(self, instance: PlannedInstance, release: Release) -> str:
        return f"reports its digest, healthy {self._watched(instance.name, release, _PROOF, wait_healthy)} times"

    def admit(self, instance: PlannedInstance, release: Release) -> str:
        new = self._ensure(instance.name, release, _SERVING)
        for found in self._containers(instance.name, _SERVING):
            if found["Id"] != new:
                self._stop(instance.name, found["Id"])
        self._start(instance.name, new)
        samples = self._watched(instance.name, release, _SERVING, wait_healthy)
        for proof in self._containers(instance.name, _PROOF):
            remove_container(self._client(instance.name), proof["Id"])
        return f"serves, healthy {samples} times; the old one is held"

    def soak(self, instance: PlannedInstance, release: Release) -> str:
        samples = self._watched(instance.name, release, _SERVING, watch)
        return f"healthy over {self._fleet.health.soak} ({samples} samples)"

    def restore(self, instance: PlannedInstance, release: Release) -> str:
        client = self._client(instance.name)
        for found in self._containers(instance.name):
            if found["ImageID"] == release.config_digest or found["Labels"][_ROLE] == _PROOF:
                remove_container(client, found["Id"])
        previous = instance.previous
        if previous is None:
            return "removed; nothing ran here before"
        self._start(instance.name, self._ensure(instance.name, previous, _SERVING))
        samples = self._watched(instance.name, previous, _SERVING, wait_healthy)
        return f"back on {previous.digest[:19]}, healthy {samples} times"

    def decommission(self, instance: PlannedInstance, release: Release) -> str:
        gone = 0
        for found in self._containers(instance.name):
            if found["ImageID"] != release.config_digest or found["Labels"][_ROLE] == _PROOF:
                gone += remove_container(self._client(instance.name), found["Id"])
        return f"{gone} held containers removed"

    def _watched(self, name: str, release: Release, role: str, how: Any) -> int:
        """Ask for health where the container of ``role`` listens, its digest and its being alive checked all the while."""
        container = self._ensure(name, release, role)
        still_there = steadily(lambda: _sight(self._inspect(name, container)), release.config_digest)
        samples: int = how(self._sampler(name, container), self._fleet.health, still_there)
        return samples

    def _sampler(self, name: str, container: str) -> Any:
        health = self._fleet.health
        if health.port is None:
            return lambda: _own_health(self._inspect(name, container))
        bindings = self._inspect(name, container)["NetworkSettings"]["Ports"].get(f"{health.port}/tcp")
        if not bindings:
            raise RolloutError(f"port {health.port} of the container is not published")
        host = urlparse(self._instances[name].host or "").hostname or "127.0.0.1"
        return lambda: ask(host, int(bindings[0]["HostPort"]), health)

    def _ensure(self, name: str, release: Release, role: str) -> str:
        """The container of a role, created (not started) when it is missing."""
        for found in self._containers(name, role):
            if found["ImageID"] == release.config_digest:
                return str(found["Id"])
        instance, api = self._instances[name], self._client(name).api
        candidate = self._candidate(name, release)
        container = f"{self._fleet.fleet}.{name}.{release.config_digest[7:19]}.{role}"
        boot = plan(candidate, self._settings, engine=self._cgroups(name), container=container)
        if boot.mode == "idle":
            raise RolloutError("the image starts no service: it has no command, or only a shell", "see platform.mode")
        arguments = {**boot.create, "labels": self._labels(name, release, role), "hostname": name}
        arguments["ports"] = [(port, "tcp") for port in self._ports(instance, role)]
        restart = {"Name": "unless-stopped"} if role == _SERVING else None
        host = {**boot.host, "port_bindings": self._ports(instance, role), "restart_policy": restart}
        with translated(RolloutError, RolloutError):
            config = api.create_host_config(**host)
            return str(
                api.create_container(release.config_digest, name=container, host_config=config, **arguments)["Id"]
            )

    def _ports(self, instance: Instance, role: str) -> dict[int, tuple[str, int] | tuple[str]]:
        """Container port → host binding. A proof container gets a free port of the loopback for its health only."""
        if role == _SERVING:
            return {inside: (self._address(instance), int(outside)) for outside, inside in instance.publish.items()}
        return {self._fleet.health.port: (self._address(instance),)} if self._fleet.health.port else {}

    @staticmethod
    def _address(instance: Instance) -> str:
        return "127.0.0.1" if not instance.host or instance.host.startswith("unix:") else "0.0.0.0"

    def _labels(self, name: str, release: Release, role: str) -> dict[str, str]:
        labels = {_FLEET: self._fleet.fleet, _INSTANCE: name, _ROLE: role, _DIGEST: release.digest}
        labels |= {_URI: release.resource_uri}
        return labels | ({OWNER_LABEL: this_process()} if role == _PROOF else {})

    def _candidate(self, name: str, release: Release) -> Candidate:
        from certify.images.reference import parse

        with translated():
            found = self._client(name).api.inspect_image(release.config_digest)
        return candidate_of(parse(release.resource_uri), found)

    def _containers(self, name: str, role: str | None = None) -> list[dict[str, Any]]:
        labels = [f"{_FLEET}={self._fleet.fleet}", f"{_INSTANCE}={name}", *([f"{_ROLE}={role}"] if role else [])]
        with translated():
            found: list[dict[str, Any]] = self._client(name).api.containers(all=True, filters={"label": labels})
            return found

    def _inspect(self, name: str, container: str) -> dict[str, Any]:
        try:
            with translated(NodeLost):
                found: dict[str, Any] = self._client(name).api.inspect_container(container)
                return found
        except NodeLost:
            raise RolloutError("its container was removed by somebody else") from None

    def _start(self, name: str, container: str) -> None:
        with translated(RolloutError, RolloutError):
            self._client(name).api.start(container)

    def _stop(self, name: str, container: str) -> None:
        with translated(NodeLost, RolloutError):
            self._client(name).api.stop(container, timeout=_STOP_SECONDS)

    def _cgroups(self, name: str) -> Engine:
        with translated():
            return Engine.of(self._client(name).info())

    def _client(self, name: str) -> Any:
        host = self._instances[name].host
        if host not in self._clients:
            self._clients[host] = connect(host)
        return self._clients[host]


def _release(found: dict[str, Any]) -> Release:
    labels = found["Labels"]
    return Release(digest=labels[_DIGEST], config_digest=found["ImageID"], resource_uri=labels[_URI])


def _sight(details: dict[str, Any]) -> Sight:
    """What a container's details show. How often the engine has started it anew, and when last, tells its starts apart."""
    state = details["State"]
    ended = "" if state["Running"] else f"its process 1 has ended with exit code {state['ExitCode']}"
    if state["Restarting"]:  # between two starts, which may be a minute apart, the engine says that it runs
        ended = AGAIN_AND_AGAIN
    return Sight(details["Image"], ended, (details["RestartCount"], state["StartedAt"]))


def _own_health(details: dict[str, Any]) -> str:
    """Without a health port: the image's own HEALTHCHECK, else that it runs."""
    status = (details["State"].get("Health") or {}).get("Status", "healthy")
    return "" if status == "healthy" else f"HEALTHCHECK says {status}"
