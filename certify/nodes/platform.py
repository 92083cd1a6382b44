"""What a platform driver gives certify: somewhere to boot a candidate, and the booted machine.

These are the seams that containers, VMs and metal share. A driver knows its SDK; nothing above it does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Protocol

from msgspec import Meta

from certify.images.candidate import Candidate, ImageSource
from certify.models import Duration, Model, Size

#: Told what is being waited for, in a few words ("loading image", "booting").
Progress = Callable[[str], None]


#: In a restored machine's ``details["snapshot"]``: its memory is from an earlier run, so this run must boot it cold too.
FROM_CACHE = "from the cache"
#: In a restored machine's ``details``: by how many seconds its clock was set forward, and with it what it thinks it booted.
CLOCK_JUMP = "clock_jump"


class PlatformSettings(Model, frozen=True):
    """What every platform can be told in ``certify.yaml``; a platform's own settings are a subclass.

    ``DECIDING`` names the settings that decide what is checked, apart from those that only say what a host can spare: evidence
    and ``certify.lock`` carry them. Of those in ``FILES``, which name a file, they carry the digest of its bytes.
    """

    DECIDING: ClassVar[tuple[str, ...]] = ()
    FILES: ClassVar[tuple[str, ...]] = ()

    driver: Annotated[str, Meta(description="which installed driver boots candidates there")] = ""
    boot_timeout: Annotated[Duration, Meta(description="how long a node may take until it can be checked")] = "60s"
    command_timeout: Annotated[Duration, Meta(description="how long one command of a check may take")] = "60s"
    output_limit: Annotated[Size, Meta(description="how much one command may print")] = "16MiB"
    stop_timeout: Annotated[Duration, Meta(description="how long a node may take to stop before it is killed")] = "30s"


@dataclass(frozen=True)
class PlatformKind:
    """What is known of a platform before any library of its driver is loaded.

    ``settings`` are its defaults, and their type its section of ``certify.yaml``; ``offers`` is all that a check may need there;
    ``first_for`` the kinds of images that are booted there when nobody names a platform.
    """

    name: str
    settings: PlatformSettings
    offers: frozenset[str]
    first_for: frozenset[str] = frozenset()


@dataclass(frozen=True)
class NodeSpec:
    """Which node to boot: the run it belongs to and its name in that run.

    ``cold`` asks for a boot from the beginning, ``firmware`` for another than the first configured, ``own_identity`` for a
    host name and hardware address that no other node of the candidate has, ``user_data`` for this in place of the configured
    user-data. ``watch`` is given the console as it is written.
    """

    run_id: str
    node_id: str
    cold: bool = False
    firmware: str = ""
    own_identity: bool = False
    user_data: bytes = b""
    watch: Callable[[bytes], None] | None = None


@dataclass(frozen=True)
class MachineFacts:
    """What evidence keeps of how a machine was booted. ``details`` are the driver's own words."""

    platform: str
    driver: str
    boot: str = "cold"
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StopReport:
    """How a machine stopped: after how many seconds, with which exit status, and whether it had to be killed."""

    seconds: float
    status: int
    killed: bool


class ShellChannel(Protocol):
    """A byte stream to one command interpreter on the machine, its two outputs apart."""

    def send(self, data: bytes) -> None:
        """Write all of ``data``. Raises ShellUnavailable when the other side is gone."""
        ...

    def receive(self, timeout: float) -> tuple[int, bytes] | None:
        """The next piece as (1 or 2, bytes); None after ``timeout`` seconds of silence. Raises ShellUnavailable."""
        ...

    def close(self) -> None: ...


class Machine(Protocol):
    """One booted candidate as its driver sees it."""

    facts: MachineFacts

    def open_channel(self) -> ShellChannel:
        """A new command interpreter (POSIX ``sh``) on the machine. Raises ShellUnavailable."""
        ...

    def run_apart(self, command: str, timeout: float) -> tuple[int, bytes, bytes]:
        """Run ``command`` in a process of its own, not over a channel: for strict mode. Status, stdout, stderr."""
        ...

    def console(self) -> bytes:
        """Everything process 1 and the kernel have said, within a cap."""
        ...

    def changed_paths(self) -> frozenset[str] | None:
        """Paths that differ from the image since it was booted; None when the driver cannot tell."""
        ...

    def why_dead(self) -> str | None:
        """None while the machine runs, else the reason in a few words. Raises EngineUnavailable."""
        ...

    @property
    def at_fault(self) -> bool:
        """Whether the candidate itself is the reason of :meth:`why_dead`: a panic is, an engine that died is not."""
        ...

    def restart(self) -> None:
        """Stop and start in an orderly way, and wait until ready. Raises NodeLost, or GuestFailed when it is at fault."""
        ...

    def power_cycle(self) -> None:
        """Cut the power, put it back, and wait until ready. Raises as :meth:`restart`."""
        ...

    def screenshot(self) -> bytes | None:
        """What its screen shows, as PNG; None where there is no screen."""
        ...

    def stop(self) -> StopReport:
        """Ask it to stop, kill it when it does not, and say how it went. It stays stopped."""
        ...

    def remove(self) -> None:
        """Take the machine and everything made for it away. Safe to repeat."""
        ...


class Platform(Protocol):
    """Boots candidates of some kinds. One object serves one run; its methods may be called from several threads."""

    name: str
    driver: str

    @property
    def settings(self) -> PlatformSettings:
        """As they are in force."""
        ...

    def why_not(self, candidate: Candidate) -> str | None:
        """None if this platform boots such candidates, else the reason."""
        ...

    def offers(self, candidate: Candidate) -> frozenset[str]:
        """What checks may need (``systemd``, ``network``, ``reboot`` …) as far as it is known before booting."""
        ...

    def memory_needed(self, candidate: Candidate) -> int:
        """Bytes one node may use; what the run's memory budget is counted in."""
        ...

    @property
    def nodes_at_once(self) -> int | None:
        """How many nodes there can be side by side; None where only memory sets a limit."""
        ...

    def prepare(self, source: ImageSource, run_id: str, progress: Progress) -> None:
        """What booting needs beside the node itself (the image in the engine, a network). Repeating it costs nothing.

        Raises as :meth:`boot`, which calls it too.
        """
        ...

    def boot(self, source: ImageSource, spec: NodeSpec, progress: Progress) -> Machine:
        """Boot and wait until ready. Whatever it leaves half made on failure it removes.

        Raises BootFailed, EngineUnavailable, GuestFailed, or ImageError for bytes that turn out wrong.
        """
        ...

    def close(self, run_id: str) -> None:
        """Take away what was made for the run beside its nodes. Safe to repeat."""
        ...
