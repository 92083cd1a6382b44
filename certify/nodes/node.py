"""A node: one booted candidate, to run commands on, read files from, restart and watch."""

from __future__ import annotations

import shlex
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from certify.errors import GuestFailed, NodeLost, ShellUnavailable, StrictMismatch, Unanswered
from certify.images.candidate import Candidate
from certify.nodes.facts import Facts, gather
from certify.nodes.platform import Machine, MachineFacts, NodeSpec, StopReport
from certify.nodes.shell import Result, Shell

_TRANSCRIPT = 200
_TOLD = 4000


@dataclass(frozen=True)
class ShellSettings:
    """Limits of a node's shells: seconds per command, bytes per stream; ``strict`` runs each command both ways."""

    timeout: float = 60.0
    limit: int = 16 * 1024**2
    strict: bool = False


class Node:
    """One booted candidate. Made by the run; suite authors get it as the ``node`` fixture.

    Attributes:
        candidate: the image it was booted from.
        name: unique in the run, used for its evidence folder.
        machine: how its driver sees it.
        transcript: the latest commands and what they did.
        commands: how many were run in all.
        check: id of the check that uses it now.
        extras: what other layers keep per node between restarts.
        lost: why it is gone, once it is.
    """

    def __init__(self, machine: Machine, candidate: Candidate, spec: NodeSpec, settings: ShellSettings) -> None:
        self.machine = machine
        self.candidate = candidate
        self.name = spec.node_id
        self._settings = settings
        self._shells: list[Shell] = []
        self._shell = self.open_shell()
        self._facts: Facts | None = None
        self._lock = threading.Lock()
        self.transcript: deque[Result] = deque(maxlen=_TRANSCRIPT)
        self.commands = 0
        self.check = ""
        self.lost = ""
        self.extras: dict[str, object] = {}

    @property
    def how(self) -> MachineFacts:
        """How it was booted: platform, driver, cold or restored, the driver's details."""
        return self.machine.facts

    def run(self, command: str, *, timeout: float | None = None) -> Result:
        """Run a POSIX shell command line and return its :class:`Result`; a status other than 0 is no error.

        ``timeout`` in seconds. Raises CommandTimeout, OutputLimit, NodeLost when the node is gone, or GuestFailed when that
        is its own doing.
        """
        return self.run_many([command], timeout=timeout)[0]

    def run_many(self, commands: Sequence[str], *, timeout: float | None = None) -> list[Result]:
        """Run commands in one round trip. Each is framed on its own; errors as :meth:`run`."""
        try:
            results = self._shell.run_many(commands, timeout)
        except ShellUnavailable as error:
            raise self._lost(error) from None
        self.transcript.extend(results)
        self.commands += len(results)
        if self._settings.strict:
            for result in results:
                self._compare(result)
        return results

    def read(self, path: str) -> bytes:
        """The bytes of a file. Raises FileNotFoundError when there is none, Unanswered when it is there and cannot be read."""
        result = self.run_many([f"cat -- {shlex.quote(path)}"])[0]
        if result.ok:
            return result.stdout
        reason = (
            f"{path} on {self.name}: {result.stderr.decode('utf-8', 'replace').strip() or f'status {result.status}'}"
        )
        if self.run_many([f"[ -f {shlex.quote(path)} ]"])[0].ok:
            raise Unanswered(reason, "the file is there, and what it holds is not known")
        raise FileNotFoundError(reason)

    def open_shell(self) -> Shell:
        """One more shell, for checks that run commands side by side. It is closed with the node at the latest."""
        shell = Shell(self.machine.open_channel, timeout=self._settings.timeout, limit=self._settings.limit)
        self._shells.append(shell)
        return shell

    @property
    def facts(self) -> Facts:
        """The node's facts, gathered once, over a shell of their own, and again after a restart. Raises NodeLost."""
        with self._lock:
            if self._facts is None:
                shell = self.open_shell()
                try:
                    self._facts = gather(shell.run_many)
                except ShellUnavailable as error:
                    raise self._lost(error) from None
                finally:
                    shell.close()
            return self._facts

    @property
    def facts_known(self) -> bool:
        """Whether somebody has asked for the facts already."""
        return self._facts is not None

    @property
    def boot_id(self) -> str:
        """The kernel's boot id; a container shows its host's."""
        return self.run_many(["cat /proc/sys/kernel/random/boot_id"])[0].text

    def transcript_since(self, commands: int) -> str:
        """The commands after the first ``commands`` ones and what they did, as text, outputs shortened."""
        count = min(self.commands - commands, len(self.transcript))
        return "\n".join(_told(result) for result in list(self.transcript)[len(self.transcript) - count :])

    def console(self) -> bytes:
        """Everything process 1 has said so far."""
        return self.machine.console()

    def reboot(self) -> None:
        """Restart in an orderly way and wait until ready. Raises NodeLost or GuestFailed when it does not come back."""
        self._again(self.machine.restart)

    def power_cycle(self) -> None:
        """Cut the power and put it back, then wait until ready. Raises as :meth:`reboot`."""
        self._again(self.machine.power_cycle)

    def _again(self, restart: Callable[[], None]) -> None:
        for shell in self._shells:
            shell.close()
        self.extras.clear()
        restart()
        with self._lock:
            self._facts = None

    def screenshot(self) -> bytes | None:
        """What its screen shows, as PNG; None where there is none."""
        return self.machine.screenshot()

    def stop(self) -> StopReport:
        """Stop it for good, in an orderly way first. For destructive checks: nothing can be run afterwards."""
        self._shell.close()
        return self.machine.stop()

    def remove(self) -> None:
        """Take the node away. Safe to repeat."""
        for shell in self._shells:
            shell.close()
        self.machine.remove()

    def _lost(self, error: ShellUnavailable) -> NodeLost | GuestFailed:
        reason = self.machine.why_dead()
        lost = f"node {self.name}: {reason or error.message}"
        if reason:
            self.lost = lost
        return (GuestFailed if self.machine.at_fault else NodeLost)(lost, "its console log is in the evidence")

    def _compare(self, result: Result) -> None:
        status, stdout, _ = self.machine.run_apart(result.command, self._settings.timeout)
        if (status, stdout) != (result.status, result.stdout):  # a shell's own messages name the shell, so no stderr
            raise StrictMismatch(
                f"over the shell {result.command!r} gave status {result.status} and {result.stdout[:80]!r}, "
                f"in a process of its own {status} and {stdout[:80]!r}",
                "the command is not repeatable, or the shell changes it; run it without strict mode and report this",
            )


def _told(result: Result) -> str:
    said = [f"$ {result.command}"]
    for mark, data in (("", result.stdout), ("stderr: ", result.stderr)):
        text = data[:_TOLD].decode("utf-8", "replace").rstrip("\n")
        if text:
            said.append(mark + text + (f" [… {len(data)} bytes]" if len(data) > _TOLD else ""))
    said.append(f"[status {result.status}, {result.duration * 1000:.1f} ms]")
    return "\n".join(said)
