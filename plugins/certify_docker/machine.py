"""A booted container: implements :class:`certify.nodes.platform.Machine`."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from certify.errors import BootFailed, NodeLost
from certify.models import seconds
from certify.nodes.platform import MachineFacts, ShellChannel, StopReport
from certify_docker.boot_mode import TOOLS
from certify_docker.cgroup import remove_group
from certify_docker.channel import ExecChannel
from certify_docker.engine import translated
from certify_docker.readiness import wait_ready
from certify_docker.settings import ContainerSettings

_CONSOLE_CAP = 4 * 1024**2
_KILLED = 137
#: Exit codes the engine gives to what was killed, and to what was running when the engine itself died.
_NOT_BY_ITSELF = (_KILLED, 143, 255)


class DockerMachine:
    """One container. ``lent_shell`` says that the shell comes from the helper volume."""

    def __init__(
        self, client: Any, container: str, facts: MachineFacts, settings: ContainerSettings, *, lent_shell: bool
    ) -> None:
        self.facts = facts
        self.container = container
        self._client = client
        self._ready_channel: ShellChannel | None = None
        self._settings = settings
        self._argv = [f"{TOOLS}/busybox", "sh"] if lent_shell else ["/bin/sh"]
        self._environment = self._path() if lent_shell else []

    def _path(self) -> list[str]:
        with translated():
            env = self._client.api.inspect_container(self.container)["Config"].get("Env") or []
        path = next((x[5:] for x in env if x.startswith("PATH=")), "/usr/sbin:/usr/bin:/sbin:/bin")
        return [f"PATH={path}:{TOOLS}/bin"]

    def open_channel(self) -> ShellChannel:
        if self._ready_channel is not None:
            channel, self._ready_channel = self._ready_channel, None
            return channel
        return ExecChannel(self._client.api, self.container, self._argv, self._environment)

    def run_apart(self, command: str, timeout: float) -> tuple[int, bytes, bytes]:
        del timeout  # bounded by the client's own
        with translated():
            created = self._client.api.exec_create(
                self.container, [*self._argv, "-c", command], user="0", environment=self._environment
            )
            stdout, stderr = self._client.api.exec_start(created["Id"], demux=True)
            status = self._client.api.exec_inspect(created["Id"])["ExitCode"]
        return status, stdout or b"", stderr or b""

    def console(self) -> bytes:
        kept = bytearray()
        with translated():
            for piece in self._client.api.logs(self.container, stream=True, follow=False):
                kept += piece
                if len(kept) > _CONSOLE_CAP:
                    break
        return bytes(kept[:_CONSOLE_CAP])

    def state(self) -> dict[str, Any]:
        """The engine's ``State`` of the container. Raises NodeLost when it is gone."""
        with translated(NodeLost):
            state: dict[str, Any] = self._client.api.inspect_container(self.container)["State"]
            return state

    def changed_paths(self) -> frozenset[str]:
        with translated():
            return frozenset(change["Path"] for change in self._client.api.diff(self.container) or ())

    def why_dead(self) -> str | None:
        try:
            state = self.state()
        except NodeLost:
            return "its container was removed"
        if state["Running"]:
            return None
        cause = "out of memory, " if state.get("OOMKilled") else ""
        return f"its process 1 has ended ({cause}exit code {state['ExitCode']})"

    @property
    def at_fault(self) -> bool:
        """Whether its process 1 ended by itself: not killed from outside, for want of memory, or with its engine."""
        try:
            state = self.state()
        except NodeLost:
            return False
        if state["Running"] or state.get("OOMKilled") or state["ExitCode"] in _NOT_BY_ITSELF:
            return False
        return not self._was_killed(state)

    def _was_killed(self, state: dict[str, Any]) -> bool:
        """Whether somebody asked the engine to stop or kill it: then its end is not its own doing."""
        since = int(datetime.fromisoformat(state["StartedAt"][:19] + "+00:00").timestamp())
        asked = {"container": self.container, "event": ["kill", "stop"]}
        with translated():
            seen = self._client.api.events(since=since, until=int(time.time()) + 1, filters=asked, decode=True)
            return any(True for _ in seen)

    def restart(self) -> None:
        try:
            with translated():
                self._client.api.restart(self.container, timeout=int(seconds(self._settings.stop_timeout)))
            self.wait_ready()
        except BootFailed as error:
            raise NodeLost(f"it did not come back from a restart: {error.message}", error.hint) from None

    def power_cycle(self) -> None:
        try:
            with translated():
                self._client.api.kill(self.container)
                self._client.api.start(self.container)
            self.wait_ready()
        except BootFailed as error:
            raise NodeLost(f"it did not come back from a power cut: {error.message}", error.hint) from None

    def screenshot(self) -> None:
        return None

    def stop(self) -> StopReport:
        allowed, started = int(seconds(self._settings.stop_timeout)), time.monotonic()
        with translated():
            self._client.api.stop(self.container, timeout=allowed)
        took = time.monotonic() - started
        status = self.state()["ExitCode"]
        return StopReport(took, status, killed=status == _KILLED and took >= allowed)

    def wait_ready(self) -> None:
        """Wait until the container is ready in its mode's sense. Raises BootFailed."""
        deadline = time.monotonic() + seconds(self._settings.boot_timeout)
        mode = self.facts.details["mode"]
        with translated(BootFailed):
            config = self._client.api.inspect_container(self.container)["Config"]
        self._ready_channel = wait_ready(self, mode, config, deadline)

    def remove(self) -> None:
        if self._ready_channel is not None:
            self._ready_channel.close()
            self._ready_channel = None
        remove_container(self._client, self.container)


def remove_container(client: Any, container: str) -> bool:
    """Remove a container, its anonymous volumes and its control group; False when it was gone already."""
    try:
        with translated():
            found = client.api.inspect_container(container)
            client.api.remove_container(container, force=True, v=True)
        remove_group(str(found["HostConfig"].get("CgroupParent") or ""))
        return True
    except NodeLost:
        return False
