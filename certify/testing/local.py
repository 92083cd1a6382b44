"""A platform whose nodes are this host's ``sh``: it implements the real interfaces, and is for unit tests only.

A start for a platform of one's own, and what the rest of certify is tested on where nothing needs to boot.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from certify.config import Images
from certify.errors import BootFailed, NotReadable, ShellUnavailable
from certify.images.candidate import Candidate, ImageSource, Layer
from certify.images.files import ImageFiles
from certify.images.reference import Reference
from certify.nodes.platform import MachineFacts, NodeSpec, PlatformSettings, Progress, StopReport


class LocalChannel:
    """A real ``sh`` in a process of its own session, its two outputs apart."""

    def __init__(self, shell: str = "/bin/sh") -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([shell], stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except OSError as error:
            raise ShellUnavailable(f"cannot write: {error}") from None

    def receive(self, timeout: float) -> tuple[int, bytes] | None:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        streams = {self.process.stdout.fileno(): 1, self.process.stderr.fileno(): 2}
        ready, _, _ = select.select(list(streams), [], [], max(0.0, timeout))
        for descriptor in ready:
            data = os.read(descriptor, 65536)
            if data:
                return streams[descriptor], data
            raise ShellUnavailable("the shell has ended")
        return None

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()


class LocalMachine:
    """Implements ``Machine`` on this host."""

    def __init__(self, facts: MachineFacts | None = None) -> None:
        self.facts = facts or MachineFacts("container", "fake")
        self.dead = ""
        self.at_fault = False
        self.removed = 0
        self.channels: list[LocalChannel] = []

    def open_channel(self) -> LocalChannel:
        if self.dead:
            raise ShellUnavailable(self.dead)
        self.channels.append(LocalChannel())
        return self.channels[-1]

    def run_apart(self, command: str, timeout: float) -> tuple[int, bytes, bytes]:
        done = subprocess.run(
            ["/bin/sh", "-c", command], capture_output=True, timeout=timeout, stdin=subprocess.DEVNULL, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def console(self) -> bytes:
        return b"hello from the console\n"

    def changed_paths(self) -> frozenset[str] | None:
        return None

    def why_dead(self) -> str | None:
        return self.dead or None

    def restart(self) -> None:
        self.dead = ""

    def power_cycle(self) -> None:
        self.dead = ""

    def screenshot(self) -> None:
        return None

    def stop(self) -> StopReport:
        self.dead = "stopped"
        return StopReport(0.0, 0, killed=False)

    def remove(self) -> None:
        self.removed += 1
        for channel in self.channels:
            channel.close()


class LocalPlatform:
    """Implements ``Platform``; ``delay`` seconds per boot, ``broken`` makes every boot fail, ``cold`` holds errors for cold
    ones, ``facts`` is how its machines say they were booted."""

    name = "container"
    driver = "fake"
    settings = PlatformSettings(driver="fake", command_timeout="10s")

    def __init__(self, *, delay: float = 0.0, broken: str = "", facts: MachineFacts | None = None) -> None:
        self.facts = facts
        self.cold: list[Exception | None] = []
        self.nodes_at_once: int | None = None
        self.delay = delay
        self.broken = broken
        self.machines: list[LocalMachine] = []
        self.closed = 0

    def why_not(self, candidate: Candidate) -> str | None:
        return None

    def offers(self, candidate: Candidate) -> frozenset[str]:
        return frozenset({"reboot"})

    def memory_needed(self, candidate: Candidate) -> int:
        return 100

    def prepare(self, source: ImageSource, run_id: str, progress: Progress) -> None:
        return

    def boot(self, source: ImageSource, spec: NodeSpec, progress: Progress) -> LocalMachine:
        progress("booting")
        time.sleep(self.delay)
        if self.broken:
            raise BootFailed(self.broken)
        if spec.cold and self.cold and (error := self.cold.pop()) is not None:
            raise error
        self.machines.append(LocalMachine(self.facts))
        return self.machines[-1]

    def close(self, run_id: str) -> None:
        self.closed += 1


class FakeSource(ImageSource):
    """An image without bytes."""

    def __init__(self, name: str = "app", digest: str = "sha256:" + "a" * 64) -> None:
        reference = Reference("docker-daemon", name, "1")
        self.candidate = Candidate(reference, digest, "oci", 1, "linux", "amd64", digest)

    def config_bytes(self) -> bytes:
        return b"{}"

    def layers(self) -> tuple[Layer, ...]:
        return ()

    def blob(self, layer: Layer) -> Iterator[bytes]:
        del layer
        return iter(())

    def files(self, limits: Images) -> ImageFiles:
        raise NotReadable(f"{self.candidate.reference}: it has no bytes")

    def describe(self) -> dict[str, Any]:
        return {}
