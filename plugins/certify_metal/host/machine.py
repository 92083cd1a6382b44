"""A booted metal node: implements :class:`certify.nodes.platform.Machine`.

It is a node only when it has proven itself: what booted knows this attempt's one-time token (so it is what was written just
now, not what was there before), names the candidate's digest, and its root file system is on the disk that was written.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from typing import Any

from certify.errors import BootFailed, CommandTimeout, EngineUnavailable, GuestFailed, NodeLost, ShellUnavailable
from certify.models import seconds
from certify.nodes.platform import MachineFacts, ShellChannel, StopReport
from certify.nodes.shell import run_once
from certify.waiting import until
from certify_metal.bmc.interface import POLL, Bmc
from certify_metal.host.channel import GuestChannel
from certify_metal.host.controller import Attempt
from certify_metal.settings import MetalSettings

_CHANNEL_SECONDS = 15.0


class MetalMachine:
    """One metal node. ``expected`` is the disk that was written (its serial); ``cleanup`` wipes, switches off, gives back."""

    def __init__(
        self, bmc: Bmc, attempt: Attempt, facts: MachineFacts, settings: MetalSettings, *,
        expected: dict[str, Any], cleanup: Callable[[], None],
    ) -> None:  # fmt: skip
        self.facts = facts
        self._bmc = bmc
        self._attempt = attempt
        self._settings = settings
        self._expected = expected
        self._cleanup = cleanup
        self._boot_id = ""
        self._boots: set[str] = set()
        self._removed = False
        #: When the last boot had proven itself, on the monotonic clock.
        self.proven_at = 0.0

    # -- booting ---------------------------------------------------------------------------------------------------

    def wait_ready(self, watch: Callable[[], None] = lambda: None) -> None:
        """Wait for the proof of a boot that was not seen before, then until the system has booted. Raises BootFailed.

        ``watch`` is called about twice a second until then; what it raises ends the wait.
        """
        began = time.monotonic()
        deadline = began + seconds(self._settings.boot_timeout)
        still_on = self._bmc.look_for_off(self._went_off)

        def look() -> None:
            if self._attempt.again:
                raise BootFailed(
                    f"{self._bmc.name}: the installer booted again, and its disk should have",
                    "its BMC keeps the medium or ignores the boot device; nothing was written a second time",
                )
            still_on()
            watch()

        found = self._attempt.wait(self._new_boot, deadline, look)
        if found is None:
            raise BootFailed(
                f"{self._bmc.name}: nothing that was written here has proven itself within {self._settings.boot_timeout}; "
                f"last words: {self._last_words()}",
                "the image must have cloud-init (NoCloud), python3 and a DHCP network; see its console in the evidence",
            )
        self._prove(found)
        self.proven_at = time.monotonic()
        self._boot_id = str(found["boot_id"])
        self._boots.add(self._boot_id)
        self._wait_booted(deadline)

    def _new_boot(self) -> dict[str, Any] | None:
        """What a boot says that was not seen before; connections of earlier ones are of no use any more."""
        said = [said for _, said in self._attempt.guests if said.get("boot_id") not in (None, *self._boots)]
        return said[-1] if said else None

    def _prove(self, said: dict[str, Any]) -> None:
        for what in ("digest", "serial"):
            if said.get(what) != self._expected[what]:
                raise BootFailed(
                    f"{self._bmc.name}: it booted with {what} {str(said.get(what))[:80]!r}, "
                    f"and {self._expected[what]!r} was written",
                    "is root_disk the disk that the firmware boots from?",
                )

    def _wait_booted(self, deadline: float) -> None:
        ask = "command -v systemctl >/dev/null && systemctl is-system-running --wait"
        try:
            run_once(self.open_channel, ask, max(1.0, deadline - time.monotonic()))
        except (CommandTimeout, ShellUnavailable) as error:
            raise BootFailed(
                f"{self._bmc.name}: it did not finish booting: {error.message}", "see its console in the evidence"
            ) from None

    def _went_off(self) -> None:
        raise BootFailed(f"{self._bmc.name}: it switched itself off while booting", "see its console in the evidence")

    def _power(self) -> str:
        """What the BMC says, or ``unknown`` when it says nothing."""
        try:
            return self._bmc.power()
        except EngineUnavailable:
            return "unknown"

    # -- Machine ---------------------------------------------------------------------------------------------------

    def open_channel(self) -> ShellChannel:
        def waiting() -> Any:
            guests = self._attempt.guests
            for at, (link, said) in enumerate(guests):
                if said.get("boot_id") == self._boot_id:
                    del guests[at]
                    return link
            return None

        for _ in range(8):  # connections of a node that went down are broken: take the next
            link = self._attempt.wait(waiting, time.monotonic() + _CHANNEL_SECONDS, lambda: None)
            if link is None:
                break
            try:
                return GuestChannel(link)
            except ShellUnavailable:
                continue
        raise ShellUnavailable(f"{self._bmc.name} offers no shell")

    def run_apart(self, command: str, timeout: float) -> tuple[int, bytes, bytes]:
        result = run_once(self.open_channel, f"sh -c {shlex.quote(command)}", timeout)
        return result.status, result.stdout, result.stderr

    def console(self) -> bytes:
        return self._bmc.console.text()

    def _last_words(self) -> str:
        lines = [line.strip() for line in self.console().decode("utf-8", "replace").splitlines() if line.strip()]
        return " | ".join(lines[-3:])[-300:]

    def changed_paths(self) -> None:
        return None

    def why_dead(self) -> str | None:
        return "it is switched off" if self._bmc.power() == "Off" else None

    @property
    def at_fault(self) -> bool:
        return False

    def restart(self) -> None:
        try:
            run_once(self.open_channel, "systemctl --no-block reboot || reboot", 20)
        except (ShellUnavailable, CommandTimeout) as error:
            raise NodeLost(f"it cannot be told to reboot: {error.message}", error.hint) from None
        self._come_back()

    def power_cycle(self) -> None:
        step = seconds(self._settings.bmc_timeout)
        try:
            self._bmc.ensure_off(step)
            self._bmc.ensure_on(step)
        except EngineUnavailable as error:
            raise NodeLost(f"its power could not be cut and put back: {error.message}", error.hint) from None
        self._come_back()

    def _come_back(self) -> None:
        try:
            self.wait_ready()
        except BootFailed as error:
            raise GuestFailed(f"it did not come back: {error.message}", error.hint) from None

    def screenshot(self) -> None:
        return None

    def stop(self) -> StopReport:
        started = time.monotonic()
        allowed = seconds(self._settings.stop_timeout)
        run_once(self.open_channel, "systemctl --no-block poweroff || poweroff", 20)
        killed = not until(lambda: self._power() == "Off", allowed, POLL)
        took = time.monotonic() - started
        if killed:
            self._bmc.ensure_off(seconds(self._settings.bmc_timeout))
        return StopReport(took, 137 if killed else 0, killed)

    def remove(self) -> None:
        if not self._removed:
            self._removed = True
            for link, _ in self._attempt.guests:
                link.close()
            self._cleanup()
