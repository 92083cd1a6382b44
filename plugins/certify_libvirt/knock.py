"""Getting into a booting guest: tries the ways of :mod:`certify_libvirt.access` while somebody waits for the first answer."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Protocol

from certify.errors import ShellUnavailable
from certify.waiting import until
from certify_libvirt.access import MARKER, WAKE, typed_script
from certify_libvirt.domain import NodeFiles, Profile
from certify_libvirt.serial import SerialConsole

_WAKE_AGAIN = 1.5
_WAKE_UNTOLD = 5.0
_OTHER_WAYS_AFTER = 10.0


class Guest(Protocol):
    """What is asked of a booting guest; each as :class:`certify_libvirt.machine.LibvirtMachine` has it."""

    profile: Profile
    files: NodeFiles
    serial: SerialConsole
    debug: SerialConsole

    @property
    def has_login(self) -> bool: ...

    def alive(self) -> None: ...

    def why_dead(self) -> str | None: ...

    def plug(self, name: str) -> None: ...

    def unplug(self, name: str) -> None: ...

    def by_login(self, deadline: float) -> bool: ...

    def by_agent(self) -> bool: ...


class Knocker:
    """Tries the ways into a booting guest, each when its time has come, while somebody waits for the first answer.

    Plugging a port in too early does no harm, so it is done again and again: soon after the guest has said that it is
    worth it, and now and then when it has not (what is written to a terminal can be lost).
    """

    def __init__(self, machine: Guest, deadline: float) -> None:
        self._machine = machine
        self._deadline = deadline
        self._started = self._woke = time.monotonic()
        self._wakes = 0
        self._ways = machine.profile.access
        self._others = False
        self.tried = "cloud-init" if machine.files.seed else "nothing"
        if machine.profile.kernel:
            threading.Thread(target=self._by_debug_shell, name="certify-access", daemon=True).start()

    def alive(self) -> None:
        """Called about four times a second while nothing answers. Raises GuestFailed when waiting is useless."""
        self._machine.alive()
        now = time.monotonic()
        told = self._machine.serial.says(MARKER)
        first = not self._wakes
        if "credentials" in self._ways and (
            (told and first) or now - self._woke > (_WAKE_AGAIN if told else _WAKE_UNTOLD)
        ):
            self._woke = now
            self._wake()
        waited = now - self._started > _OTHER_WAYS_AFTER or "credentials" not in self._ways
        if not told and not self._others and waited:
            self._others = True
            threading.Thread(target=self._other_ways, name="certify-access", daemon=True).start()

    def unplug(self) -> None:
        """Leave the machine as it was defined."""
        if self._wakes:
            with suppress(ShellUnavailable):  # a machine that is gone has no ports
                self._machine.unplug(f"{WAKE}.{self._wakes}")

    def _wake(self) -> None:
        self.unplug()
        self._wakes += 1
        self.tried = "systemd credentials"
        with suppress(ShellUnavailable):  # the next one may go in
            self._machine.plug(f"{WAKE}.{self._wakes}")

    def _by_debug_shell(self) -> None:
        if self._machine.debug.talk(typed_script(), self._deadline):
            self.tried = "systemd's debug shell"

    def _other_ways(self) -> None:
        """A login on the console when an account is configured, else the guest agent as soon as it answers."""
        if self._machine.has_login and "login" in self._ways:
            self.tried += ", login"
            if self._machine.by_login(self._deadline):
                return
        if "agent" not in self._ways:
            return
        self.tried += ", guest agent"
        left = self._deadline - time.monotonic()
        until(lambda: self._machine.why_dead() is not None or self._machine.by_agent(), left, 0.5)
