"""The ``container`` platform on a docker engine: implements :class:`certify.nodes.platform.Platform`."""

from __future__ import annotations

import re
import secrets
import threading
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from certify.config import Images
from certify.errors import BootFailed, GuestFailed
from certify.files import write_whole
from certify.images.candidate import Candidate, ImageSource, go_architecture, hex_of, require_platform
from certify.images.layers import require_layers
from certify.images.store import Store
from certify.models import size_bytes
from certify.nodes.owner import this_process
from certify.nodes.platform import MachineFacts, NodeSpec, Progress
from certify_docker.boot_mode import TOOLS, BootPlan, mode_of, plan
from certify_docker.busybox import archive
from certify_docker.cgroup import Engine
from certify_docker.disk import DISK_CONFIG, import_disk
from certify_docker.engine import NODE_LABEL, OWNER_LABEL, RUN_LABEL, connect, translated
from certify_docker.load import ensure_image
from certify_docker.machine import DockerMachine, remove_container
from certify_docker.settings import ContainerSettings

#: The engine's exit codes for a command that is not there, or that cannot be run.
_CANNOT_RUN = (126, 127)


class DockerPlatform:
    """Boots OCI candidates as containers. One per run; boots may run side by side."""

    name = "container"
    driver = "docker"

    def __init__(self, settings: ContainerSettings, images: Images | None = None) -> None:
        self.settings = settings
        self._images = images or Images()
        self._lock = threading.Lock()
        self._networks: dict[str, str] = {}

    @cached_property
    def _client(self) -> Any:
        return connect()

    @cached_property
    def _engine(self) -> dict[str, Any]:
        with translated():
            info: dict[str, Any] = self._client.info()
            return info

    def why_not(self, candidate: Candidate) -> str | None:
        return None if candidate.kind in ("oci", "disk") else f"the container platform boots no {candidate.kind} images"

    def offers(self, candidate: Candidate) -> frozenset[str]:
        if candidate.kind == "disk":
            candidate = replace(candidate, config=DISK_CONFIG)
        offers = {"reboot"} if self.settings.mode != "idle" else set()
        if mode_of(candidate, self.settings) == "init":
            offers.add("systemd")
        if mode_of(candidate, self.settings) == "service":
            offers.add("service")
        if self.settings.network == "bridge":
            offers.add("network")
        return frozenset(offers)

    def memory_needed(self, candidate: Candidate) -> int:
        del candidate
        return size_bytes(self.settings.memory)

    @property
    def nodes_at_once(self) -> None:
        return None

    def prepare(self, source: ImageSource, run_id: str, progress: Progress) -> None:
        progress("preparing image")
        self._bootable(source, progress)
        self._network(run_id)

    def _bootable(self, source: ImageSource, progress: Progress) -> Candidate:
        """The candidate as the engine can start it, loaded. A disk's root filesystem is imported; its identity stays."""
        with self._lock:  # several nodes of one candidate load it once
            require_platform(source.candidate, go_architecture(self._engine["Architecture"]))
            if source.candidate.kind == "disk":
                return import_disk(self._client, source, progress)
            self._require_layers(source, progress)
            ensure_image(self._client, source, progress)
            return source.candidate

    def _require_layers(self, source: ImageSource, progress: Progress) -> None:
        """The layers are those that the config names, and within limits: an engine that has the config already never looks.

        What one manifest's layers hold never changes, so this is noted by its digest. Raises DigestMismatch, ImageInvalid.
        """
        candidate = source.candidate
        if not candidate.layers:
            return  # an engine's own image
        note = Store(Path(self._images.store)).folder("checked") / hex_of(candidate.digest)
        if not note.exists() or note.read_text() != candidate.config_digest:
            progress("checking layers")
            require_layers(source, self._images)
            write_whole(note, candidate.config_digest.encode())

    def boot(self, source: ImageSource, spec: NodeSpec, progress: Progress) -> DockerMachine:
        self.prepare(source, spec.run_id, progress)
        candidate = self._bootable(source, progress)
        name = f"certify-{spec.run_id}-{spec.node_id}"
        boot_plan = plan(candidate, self.settings, engine=Engine.of(self._engine), container=name)
        progress(f"booting ({boot_plan.mode})")
        container, lent_shell = self._create(candidate, boot_plan, spec)
        try:
            return self._start(container, boot_plan, lent_shell)
        except BaseException:
            remove_container(self._client, container)
            raise

    def close(self, run_id: str) -> None:
        """Remove the run's network and hang up. Safe to repeat."""
        network = self._networks.pop(run_id, None)
        if network is not None:
            with translated():
                self._client.api.remove_network(network)
        if "_client" in self.__dict__:
            self._client.close()

    def _start(self, container: str, boot_plan: BootPlan, lent_shell: bool) -> DockerMachine:
        started = time.monotonic()
        try:
            with translated(BootFailed, BootFailed):
                self._client.api.start(container)
        except BootFailed as error:
            with translated(BootFailed, BootFailed):
                status = self._client.api.inspect_container(container)["State"]["ExitCode"]
            if status in _CANNOT_RUN:
                raise GuestFailed(
                    error.message, "see the image's entrypoint and command: certify inspect REF"
                ) from None
            raise
        details = {
            "mode": boot_plan.mode,
            "container": container,
            "engine": self._engine["ServerVersion"],
            "storage": self._engine["Driver"],
            "kernel": self._engine["KernelVersion"],
            "cgroup": Engine.of(self._engine).version,
            "network": self.settings.network,
            "memory": self.settings.memory,
            "shell": "busybox from outside" if lent_shell else "the image's /bin/sh",
        }
        facts = MachineFacts(self.name, self.driver, "cold", details)
        machine = DockerMachine(self._client, container, facts, self.settings, lent_shell=lent_shell)
        machine.wait_ready()
        details["ready_seconds"] = round(time.monotonic() - started, 3)
        return machine

    def _create(self, candidate: Candidate, boot_plan: BootPlan, spec: NodeSpec) -> tuple[str, bool]:
        """Create the container, not started. With the helper volume when the image cannot do without."""
        with_tools = boot_plan.mode == "idle"
        container = self._create_once(candidate, boot_plan, spec, with_tools)
        lent_shell = not self._has_shell(container)
        if lent_shell and not with_tools:
            remove_container(self._client, container)
            container, with_tools = self._create_once(candidate, boot_plan, spec, True), True
        if with_tools:
            try:
                with translated():
                    self._client.api.put_archive(container, TOOLS, archive(candidate.architecture))
            except BaseException:
                remove_container(self._client, container)
                raise
        return container, lent_shell

    def _create_once(self, candidate: Candidate, boot_plan: BootPlan, spec: NodeSpec, with_tools: bool) -> str:
        api = self._client.api
        arguments, host = dict(boot_plan.create), dict(boot_plan.host)
        if candidate.kind == "disk":  # a container has none of the file systems that a machine's fstab names
            host["binds"] = [*host.get("binds", []), "/dev/null:/etc/fstab:ro"]
        if with_tools:
            arguments["volumes"] = [TOOLS]
        with translated(BootFailed, BootFailed):
            created = api.create_container(
                candidate.config_digest,
                name=boot_plan.container,
                hostname=host_name(spec.node_id),
                labels={RUN_LABEL: spec.run_id, NODE_LABEL: spec.node_id, OWNER_LABEL: this_process()},
                host_config=api.create_host_config(network_mode=self._network(spec.run_id), **host),
                **arguments,
            )
        return str(created["Id"])

    def _has_shell(self, container: str) -> bool:
        """Whether /bin/sh is there: the engine's "information about files" call, which sends no bytes of the file."""
        api = self._client.api
        with translated():
            answer = api.head(
                f"{api.base_url}/v{api.api_version}/containers/{container}/archive", params={"path": "/bin/sh"}
            )
        return bool(answer.ok)

    def _network(self, run_id: str) -> str:
        if self.settings.network != "internal":
            return self.settings.network
        with self._lock:
            if run_id not in self._networks:
                labels = {RUN_LABEL: run_id, OWNER_LABEL: this_process()}
                with translated():
                    made = self._client.api.create_network(
                        f"certify-{run_id}-{secrets.token_hex(3)}", internal=True, labels=labels
                    )
                self._networks[run_id] = made["Id"]
            return self._networks[run_id]


def host_name(node: str) -> str:
    """A node's name as a host name (RFC 1123, 2.1): an init system writes another one anew, which nothing then resolves."""
    return re.sub(r"[^a-zA-Z0-9-]+", "-", node)[:63].strip("-")
