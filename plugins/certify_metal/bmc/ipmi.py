"""A BMC that speaks IPMI 2.0 over LAN (RMCP+). pyghmi frames and encrypts; what is asked when, time and errors are ours.

IPMI knows no virtual media: the installer is booted from the network. Many BMCs tell no UUID of the machine either; then the
inventory's counts, and the installer compares it with the machine's before anything is written. Only commands are sent that
may come twice: on, off, boot from there.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pyghmi  # noqa: F401 - what our processes need; without it this driver is not there

from certify.errors import EngineUnavailable, UsageError
from certify.logs import timed
from certify_metal.bmc.interface import Bmc, Busy
from certify_metal.host.inventory import MetalNode

_LOG = logging.getLogger(__name__)
_PORT = 623
_ANSWER = 20.0
_SOL_AGAIN, _SOL_ENDS = 3.0, 10.0  # seconds
_DEVICES = {"Pxe": "network", "Hdd": "hd", "Cd": "optical"}
_RESETS = {"On": 1, "ForceOff": 0, "GracefulShutdown": 5}  # IPMI 2.0, 28.3 "Chassis Control Command"
_CHASSIS, _APPLICATION = 0x00, 0x06
_STATUS, _CONTROL, _SYSTEM_GUID = 0x01, 0x02, 0x37
_LATER = {0xC0, 0xC3, 0xCE, 0xD5}  # busy, timed out inside, cannot answer now, not in this state (IPMI 2.0, table 5-2)
_REFUSALS = ("password", "username", "unauthorized", "privilege")  # in the words of pyghmi and of IPMI 2.0, table 13-15
_CRITICAL = 2  # pyghmi's severity of an event


class IpmiBmc(Bmc):
    """Implements :class:`certify_metal.bmc.interface.Bmc`. An exchange is kept as its command and how it ended."""

    def __init__(self, name: str, node: MetalNode) -> None:
        super().__init__(name, node)
        self._session: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    # -- who it is -------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        if self.node.uuid is None:
            raise UsageError(
                f"{self.name}: a node that boots from the network must have its uuid in nodes.yaml",
                "`dmidecode -s system-uuid` on the machine prints it",
            )
        guid = self._guid()
        if guid and self.node.uuid.lower() not in _readings(guid):
            raise UsageError(
                f"{self.name}: the machine there has uuid {UUID(bytes=guid)}, nodes.yaml says {self.node.uuid}",
                "nothing was changed; correct nodes.yaml",
            )

    def _guid(self) -> bytes:
        """IPMI 2.0, 22.14 "Get System GUID"; empty where the BMC does not know the command."""
        answer = self._ask("raw", netfn=_APPLICATION, command=_SYSTEM_GUID)
        raw = bytes(answer["data"])
        return raw if not answer["code"] and len(raw) == 16 and any(raw) else b""

    @property
    def uuid(self) -> str:
        return (self.node.uuid or "").lower()

    def facts(self) -> dict[str, Any]:
        told = self._known("product") or {}
        return {
            "protocol": "ipmi",
            "manufacturer": told.get("Manufacturer"), "model": told.get("Product name"), "serial": told.get("Serial Number"),
            "uuid": self.uuid, "bios": None, "power": self.power(),
        }  # fmt: skip

    def critical_events(self) -> set[str] | None:
        events = self._known("events")
        if events is None:
            return None
        return {
            f"{event.get('timestamp', '')} {event.get('component', '')} {event.get('event', '')}".strip()
            for event in events
            if event.get("severity", 0) >= _CRITICAL
        }

    # -- power and boot device -------------------------------------------------------------------------------------

    def power(self) -> str:
        try:
            status = self._raw("power", _STATUS)  # IPMI 2.0, 28.2 "Get Chassis Status"
        except Busy as error:
            raise EngineUnavailable(f"{self.name}: {error}", "its BMC is busy; try again") from None
        if not status:
            raise EngineUnavailable(f"{self.name}: its BMC does not say whether it is on", "see its event log")
        return "On" if status[0] & 1 else "Off"

    def _reset(self, kind: str) -> None:
        self._raw(kind, _CONTROL, _RESETS[kind])

    def _set_boot(self, target: str, enabled: str) -> None:
        uefi = self.node.firmware != "bios"
        self._known("boot", device=_DEVICES[target], persist=enabled == "Continuous", uefi=uefi)

    def _boots_from(self, target: str) -> bool:
        return bool((self._known("boot device") or {}).get("bootdev") == _DEVICES[target])

    def boot_targets(self) -> set[str]:
        return set(_DEVICES)

    # -- what it does not have -------------------------------------------------------------------------------------

    def slots(self, timeout: float = 10.0) -> list[Any]:
        del timeout
        return []

    def ensure_ejected(self, timeout: float) -> None:
        """Nothing can be inserted."""

    def ensure_inserted(self, url: str, timeout: float) -> None:
        del url, timeout
        raise EngineUnavailable(f"{self.name}: IPMI has no virtual media", "it boots from the network")

    # -- serial line -----------------------------------------------------------------------------------------------

    @contextmanager
    def console_to(self, sink: Callable[[bytes], None]) -> Iterator[None]:
        """Serial-over-LAN, taken from whoever has it, and taken up again when it is lost: :mod:`certify_metal.bmc.ipmi_sol`."""
        over = threading.Event()
        listeners: list[subprocess.Popen[bytes]] = []

        def listen() -> None:
            while not over.is_set():
                with self._started("certify_metal.bmc.ipmi_sol") as listener:
                    listeners[:] = [listener]
                    while piece := listener.stdout.read1(65536):  # type: ignore[union-attr]
                        sink(piece)
                if not over.is_set():
                    sink(b"\n[the serial line over LAN was lost]\n")
                    over.wait(_SOL_AGAIN)

        thread = threading.Thread(target=listen, name=f"certify-sol-{self.name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            for listener in listeners:
                with suppress(OSError):
                    listener.stdin.close()  # type: ignore[union-attr]  # the end of its input ends it
            thread.join(_SOL_ENDS)
            for listener in listeners:
                listener.kill()

    # -- how it is asked -------------------------------------------------------------------------------------------

    def _raw(self, what: str, command: int, *data: int) -> bytes:
        """A chassis command's answer. Raises Busy for a BMC that says not now, EngineUnavailable for no, or nothing."""
        answer = self._ask("raw", netfn=_CHASSIS, command=command, data=data)
        self.exchanges.append(f"{what}: {answer['error'] or 'ok'}")
        if answer["code"] in _LATER:
            raise Busy(f"{what} was answered {answer['code']:#x}")
        if answer["error"]:
            raise EngineUnavailable(f"{self.name}: {what}: {answer['error']}", "see its event log")
        return bytes(answer["data"])

    def _known(self, what: str, **request: Any) -> Any:
        """What a BMC may know; None where it says that it does not. Raises EngineUnavailable when it says nothing."""
        try:
            found = self._ask(what, **request)
        except _Refused as error:
            self.exchanges.append(f"{what}: {error}")
            return None
        self.exchanges.append(f"{what}: ok")
        return found

    def _ask(self, what: str, **request: Any) -> Any:
        """One question, over the session or, where that has expired, a new one. Raises EngineUnavailable, _Refused."""
        with timed(_LOG, f"{self.name}: IPMI {what}"), self._lock:
            for last in (False, True):
                session = self._session or self._log_in()
                try:
                    return self._answer(session, {"ask": what, **request})
                except _Refused as error:
                    if last or "no longer connected" not in str(error).lower():
                        raise
                    self._end()
            raise AssertionError("the last try returns or raises")

    def _log_in(self) -> subprocess.Popen[bytes]:
        """A password that is refused is not tried again. Raises UsageError, EngineUnavailable."""
        session = self._session = self._started("certify_metal.bmc.ipmi_session")
        try:
            self._answer(session, None)
        except _Refused as error:
            self._end()
            if any(word in str(error).lower() for word in _REFUSALS):
                raise self._refused() from None
            raise self._silent(EngineUnavailable("no answer" if str(error).endswith("None") else str(error))) from None
        return session

    def _started(self, module: str) -> subprocess.Popen[bytes]:
        """One of our processes, told where its BMC is; the password goes by its standard input."""
        address = urlsplit(self.node.bmc.address)
        where = {"host": address.hostname or "", "port": address.port or _PORT, "user": self.node.bmc.username}
        process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._tell(process, {**where, "password": self.node.bmc.password.read()})
        return process

    @staticmethod
    def _tell(process: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which is seen by its answer
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()

    def _answer(self, session: subprocess.Popen[bytes], request: dict[str, Any] | None) -> Any:
        if request is not None:
            self._tell(session, request)
        said = json.loads(self._line(session) or b'{"error": "it ended"}')
        if "error" in said:
            raise _Refused(said["error"])
        return said["answer"]

    def _line(self, session: subprocess.Popen[bytes]) -> bytes:
        """One line within the deadline. Raises EngineUnavailable, with the session ended, when none comes."""
        assert session.stdout is not None
        line, deadline = b"", time.monotonic() + _ANSWER
        with selectors.DefaultSelector() as selector:
            selector.register(session.stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self._end()
                    raise self._silent(EngineUnavailable(f"no answer within {_ANSWER:.0f} s"))
                piece = os.read(session.stdout.fileno(), 65536)
                if not piece:
                    return b""
                line += piece
        return line

    def _end(self) -> None:
        if self._session is not None:
            self._session.kill()
            self._session.communicate()
            self._session = None

    def __del__(self) -> None:
        self._end()


class _Refused(Exception):
    """pyghmi's words for what the BMC refused."""


def _readings(guid: bytes) -> list[str]:
    """A GUID in the orders that BMCs send it in: as written, as SMBIOS keeps it (SMBIOS 3, 7.2.1), last byte first."""
    return [str(UUID(bytes=guid)), str(UUID(bytes_le=guid)), str(UUID(bytes=guid[::-1]))]
