"""A booted guest: implements :class:`certify.nodes.platform.Machine`."""

from __future__ import annotations

import io
import shlex
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import libvirt

from certify.errors import (
    BootFailed,
    CommandTimeout,
    EngineUnavailable,
    GuestFailed,
    NodeLost,
    ShellUnavailable,
)
from certify.models import seconds
from certify.nodes.platform import MachineFacts, ShellChannel, StopReport
from certify.nodes.shell import run_once
from certify.waiting import until
from certify_libvirt.access import bootstrap, typed
from certify_libvirt.agent import guest_exec
from certify_libvirt.channel import Slots
from certify_libvirt.domain import NODE_NAMESPACE, NodeFiles, Profile, domain_xml, marks_xml, wake_port
from certify_libvirt.hypervisor import Hypervisor, gone, translated
from certify_libvirt.knock import Knocker
from certify_libvirt.pipes import connect_socket, open_stream
from certify_libvirt.serial import SerialConsole
from certify_libvirt.settings import VmSettings

_POLL = 0.05
_BURST = 2.0  # a kernel asks for its reset in several ways at once
_LOOP = 3  # as many resets before it is ready are a loop


@dataclass(frozen=True)
class MachineSettings:
    """What a machine needs of the configuration. ``patience`` scales every deadline: how much slower guests run here."""

    platform: VmSettings
    patience: float
    password: str = ""

    @property
    def boot_seconds(self) -> float:
        """How long a boot may take here."""
        return seconds(self.platform.boot_timeout) * self.patience


class LibvirtMachine:
    """One domain. Made running or restored by the platform; ``cleanup`` takes its files away."""

    def __init__(
        self, hypervisor: Hypervisor, domain: tuple[str, Profile, NodeFiles], facts: MachineFacts, settings: MachineSettings,
        *, console: SerialConsole, cleanup: Callable[[], None],
    ) -> None:  # fmt: skip
        self.facts = facts
        self.name, self.profile, self.files = domain
        self.access = ""
        self._hypervisor = hypervisor
        self._settings = settings
        self.serial = console
        self._cleanup = cleanup
        self._domain: Any = None
        self._slots: Slots | None = None
        self._ended = ""
        self.debug = SerialConsole()
        self._lock = threading.Lock()
        self._reset = threading.Condition()
        self._reset_event: int | None = None
        self._last_reset = 0.0
        self.resets = self._resets_before = 0

    # -- the domain ------------------------------------------------------------------------------------------------

    def define(self, metadata: dict[str, str]) -> None:
        """Start the domain, paused, and connect its console and ports. Raises EngineUnavailable."""
        self._metadata = metadata
        with translated():
            xml = domain_xml(self.name, self.profile, self.files, marks_xml("node", NODE_NAMESPACE, metadata))
            self._domain = self._hypervisor.connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)
            event = libvirt.VIR_DOMAIN_EVENT_ID_REBOOT
            self._reset_event = self._hypervisor.connection.domainEventRegisterAny(
                self._domain, event, self._was_reset, None
            )
        self._ended = ""
        self.serial.attach(self._connect("console"))
        self.debug = SerialConsole()
        if self.profile.kernel:
            self.debug.attach(self._connect("debug"))
        self._slots = Slots(self._connect, self._panicked)

    def go(self) -> None:
        """Let the processors run."""
        with translated():
            self._domain.resume()

    @property
    def domain(self) -> Any:
        """libvirt's object, for the snapshot code."""
        return self._domain

    def _connect(self, port: str) -> socket.socket:
        if self.files.sockets:
            return connect_socket(f"{self.files.sockets}/{port}")
        if port in ("console", "debug"):
            return open_stream(
                self._hypervisor.connection, lambda stream: self._domain.openConsole(f"ua-{port}", stream, 0)
            )
        return open_stream(self._hypervisor.connection, lambda stream: self._domain.openChannel(port, stream, 0))

    # -- booting ---------------------------------------------------------------------------------------------------

    def wait_ready(self) -> None:
        """Wait until a shell answers and the system has booted. Raises BootFailed or GuestFailed."""
        began = time.monotonic()
        deadline = began + self._settings.boot_seconds
        assert self._slots is not None
        self._resets_before = self.resets
        helper = Knocker(self, deadline)
        try:
            self._slots.wait_first(deadline, helper.alive)
        except ShellUnavailable as error:
            self._raise_fatal()
            told = f"{error.message} after {time.monotonic() - began:.0f} s (tried {helper.tried})"
            raise BootFailed(
                f"{told}; last words: {self.serial.last_words()}",
                "the image must know systemd credentials, cloud-init or the guest agent, or vm.login must name an account",
            ) from None
        finally:
            helper.unplug()
        self.access = helper.tried.rpartition(", ")[2]
        self._wait_booted(deadline)

    def _wait_booted(self, deadline: float) -> None:
        ask = "command -v systemctl >/dev/null && systemctl is-system-running --wait"
        try:
            run_once(self.open_channel, ask, max(1.0, deadline - time.monotonic()))
        except (CommandTimeout, ShellUnavailable) as error:
            self._raise_fatal()
            raise BootFailed(
                f"it did not finish booting: {error.message}; last words: {self.serial.last_words()}",
                "see its console log in the evidence; boot_timeout in certify.yaml gives it more time",
            ) from None

    def _raise_fatal(self) -> None:
        """Raise GuestFailed when the console or the domain's state says that the guest is at fault."""
        reason = self.why_dead()
        if reason:
            raise GuestFailed(f"{reason}; last words: {self.serial.last_words()}", "its console log is in the evidence")

    def alive(self) -> None:
        """Raise GuestFailed as soon as waiting is useless."""
        self._raise_fatal()
        if self.resets - self._resets_before >= _LOOP:
            raise GuestFailed(f"it boots again and again ({_LOOP} resets)", "its console log is in the evidence")

    # -- Machine ---------------------------------------------------------------------------------------------------

    def open_channel(self) -> ShellChannel:
        if self._slots is None:
            raise ShellUnavailable("the machine was stopped")
        return self._slots.open()

    def run_apart(self, command: str, timeout: float) -> tuple[int, bytes, bytes]:
        result = run_once(self.open_channel, f"sh -c {shlex.quote(command)}", timeout)
        return result.status, result.stdout, result.stderr

    def console(self) -> bytes:
        return self.serial.contents

    def changed_paths(self) -> None:
        return None

    def why_dead(self) -> str | None:
        if reason := self._panicked():
            return reason
        try:
            state, reason = self._domain.state()
        except libvirt.libvirtError as error:
            if gone(error):
                return self._ended or "its virtual machine is gone"
            with translated():
                raise
        if state == libvirt.VIR_DOMAIN_CRASHED:
            return "the kernel panicked (pvpanic)"
        if state == libvirt.VIR_DOMAIN_SHUTOFF:
            return f"its virtual machine has ended (reason {reason})"
        return None

    @property
    def at_fault(self) -> bool:
        return bool(self._panicked())

    def _panicked(self) -> str:
        fault = self.serial.fatal
        return f"{fault.means} ({fault.line})" if fault is not None else ""

    def restart(self) -> None:
        before = self.resets
        try:
            run_once(self.open_channel, "command -v systemctl >/dev/null && systemctl --no-block reboot || reboot", 20)
        except (ShellUnavailable, CommandTimeout) as error:
            raise NodeLost(f"it cannot be told to reboot: {error.message}", error.hint) from None
        self._wait_reset(before)
        self._come_back()

    def _wait_reset(self, before: int) -> None:
        """Wait for the reset that ends a shutdown. Raises GuestFailed."""
        deadline = time.monotonic() + seconds(self._settings.platform.stop_timeout) * self._settings.patience
        with self._reset:
            while self.resets == before and time.monotonic() < deadline:
                self._raise_fatal()
                self._reset.wait(0.25)
        if self.resets == before:
            words = self.serial.last_words()
            raise GuestFailed(
                f"it did not go down for a reboot; last words: {words}", "its console log is in the evidence"
            )

    def _was_reset(self, *_: Any) -> None:
        with self._reset:
            now = time.monotonic()
            if now - self._last_reset > _BURST:
                self.resets += 1
                self.serial.begin_boot()
                self._last_reset = now
                self._reset.notify_all()

    def _come_back(self) -> None:
        assert self._slots is not None
        try:
            self.wait_ready()
        except BootFailed as error:
            raise GuestFailed(f"it did not come back: {error.message}", error.hint) from None

    def power_cycle(self) -> None:
        self._stop_domain("its power was cut")
        self.files = replace(self.files, incoming=False, ram="", ram_shared=False)
        self.serial.begin_boot()
        try:
            self.define(self._metadata)
        except EngineUnavailable as error:
            raise NodeLost(f"it could not be started again: {error.message}", error.hint) from None
        self.go()
        self._come_back()

    def screenshot(self) -> bytes | None:
        from PIL import Image

        with translated(NodeLost):
            stream = self._hypervisor.connection.newStream()
            self._domain.screenshot(stream, 0)
            pieces = bytearray()
            stream.recvAll(lambda _, data, __: pieces.extend(data), None)
            stream.finish()
        png = io.BytesIO()
        Image.open(io.BytesIO(bytes(pieces))).save(png, "PNG")
        return png.getvalue()

    def stop(self) -> StopReport:
        started = time.monotonic()
        allowed = seconds(self._settings.platform.stop_timeout) * self._settings.patience
        with translated(NodeLost):
            self._domain.shutdown()
        killed = not until(lambda: self.why_dead() is not None, allowed, _POLL)
        took = time.monotonic() - started
        self._stop_domain("it was stopped")
        return StopReport(took, 137 if killed else 0, killed)

    def remove(self) -> None:
        with self._lock:
            self._stop_domain("it was removed")
            self._cleanup()

    def keep_disk(self, folder: Path) -> None:
        """Power off and move the disks into ``folder``, for a snapshot."""
        self._stop_domain("its snapshot was taken")
        for path in Path(self.files.disk).parent.iterdir():
            path.rename(folder / path.name)

    def _stop_domain(self, why: str) -> None:
        """Power off, hang up, forget the domain."""
        self._ended = why
        slots, self._slots = self._slots, None
        if self._reset_event is not None:
            with suppress(libvirt.libvirtError):  # a lost connection has no events to cancel
                self._hypervisor.connection.domainEventDeregisterAny(self._reset_event)
            self._reset_event = None
        if self._domain is not None:
            try:
                self._domain.destroy()
            except libvirt.libvirtError as error:
                if not gone(error):
                    with translated():
                        raise
        if slots is not None:
            slots.close()
        self.serial.close()
        self.debug.close()

    # -- ways in ---------------------------------------------------------------------------------------------------

    def plug(self, port: str) -> None:
        """Plug a virtio-serial port in, which is an event in the guest."""
        with translated(ShellUnavailable):
            self._domain.attachDevice(wake_port(port, self.files))

    def unplug(self, port: str) -> None:
        """Take a port away again; the machine is then as it was defined."""
        with translated(ShellUnavailable):
            self._domain.detachDevice(wake_port(port, self.files))

    def by_agent(self) -> bool:
        """Start the shells by the guest agent; whether it took the order."""
        return guest_exec(self._domain, bootstrap())

    def by_login(self, deadline: float) -> bool:
        """Start the shells by logging in on the serial console; whether the dialogue went to its end."""
        login = self._settings.platform.login
        return login is not None and self.serial.talk(typed(login.user, self._settings.password), deadline)

    @property
    def has_login(self) -> bool:
        """Whether an account is configured."""
        return self._settings.platform.login is not None
