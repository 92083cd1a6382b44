"""What the metal platform needs of a node's BMC, whatever it speaks: small steps that read, act if needed, and then watch.

Rules: nothing a BMC answers to a change is believed before it is observed. A change that got no answer is never simply sent
again: the state is read first, and the change sent again only when it is seen not to have happened. A BMC that says nothing
is unknown, not off.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any
from urllib.parse import urlsplit

from certify.errors import EngineUnavailable, UsageError
from certify_metal.bmc.console import Console, NoConsole
from certify_metal.host.inventory import MetalNode

POLL = 0.5
_LOOK = 5.0
_ACT_AGAIN = 15.0  # seconds without the wanted state after which a change that was seen not to happen is sent again


class Busy(Exception):
    """The BMC said no for now: nothing has happened, so the same may be asked again."""


class Bmc(ABC):
    """The BMC of one node. ``exchanges`` grows with every request: what and how it ended; never a header or a password.

    ``console`` is the machine's serial line, once somebody has opened it.
    """

    def __init__(self, name: str, node: MetalNode) -> None:
        self.name = name
        self.node = node
        self.exchanges: list[str] = []
        self.console: Console = NoConsole()

    @abstractmethod
    def connect(self) -> None:
        """Log in and find the machine that the inventory means; nothing is changed.

        Raises EngineUnavailable when it does not answer, UsageError for a wrong password, identity or address.
        """

    @property
    @abstractmethod
    def uuid(self) -> str:
        """The machine's UUID, in small letters: as the BMC tells it, or, where it tells none, as the inventory has it."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the BMC speaks (``protocol``), and says of its machine: manufacturer, model, serial, uuid, bios, power."""

    @abstractmethod
    def critical_events(self) -> set[str] | None:
        """Critical messages in the event logs; None where there are no logs."""

    @abstractmethod
    def power(self) -> str:
        """``On``, ``Off`` or what else it says. Raises EngineUnavailable."""

    @abstractmethod
    def boot_targets(self) -> set[str]:
        """What it says it can boot from; empty when it does not say."""

    @abstractmethod
    def slots(self, timeout: float = 10.0) -> list[Any]:
        """Virtual media that take a CD or DVD image. None: the installer is booted from the network."""

    @abstractmethod
    def ensure_ejected(self, timeout: float) -> None:
        """No image in any slot. Raises EngineUnavailable."""

    @abstractmethod
    def ensure_inserted(self, url: str, timeout: float) -> None:
        """``url`` in a slot, and in that slot only. Raises EngineUnavailable."""

    @abstractmethod
    def _reset(self, kind: str) -> None:
        """``On``, ``ForceOff`` or ``GracefulShutdown``, sent once. Raises EngineUnavailable, Busy."""

    @abstractmethod
    def _set_boot(self, target: str, enabled: str) -> None:
        """Ask once to boot from there, as :meth:`ensure_boot` has it. Raises EngineUnavailable, Busy."""

    @abstractmethod
    def _boots_from(self, target: str) -> bool:
        """Whether that is what is set now. Raises EngineUnavailable."""

    def console_to(self, sink: Callable[[bytes], None]) -> AbstractContextManager[None]:
        """While it is open, give ``sink`` what the machine says on its serial line. Raises EngineUnavailable."""
        del sink
        return nullcontext()

    # -- power -----------------------------------------------------------------------------------------------------

    def look_for_off(self, went_off: Callable[[], None]) -> Callable[[], None]:
        """What looks at the power when it is called, every few seconds at most, and calls ``went_off`` when it is off.

        A BMC that says nothing is unknown, not off.
        """
        last = time.monotonic()

        def look() -> None:
            nonlocal last
            if time.monotonic() - last < _LOOK:
                return
            last = time.monotonic()
            try:
                off = self.power() == "Off"
            except EngineUnavailable:
                return
            if off:
                went_off()

        return look

    def ensure_off(self, timeout: float, *, graceful: float = 0.0) -> None:
        """Off, by asking for at most ``graceful`` seconds and then by force. Raises EngineUnavailable."""
        if graceful and self.power() != "Off":
            with suppress(EngineUnavailable):  # it did not listen, or its BMC did not: force is next, and says so
                self._ensure(
                    "off", lambda: self.power() == "Off", lambda: self._reset("GracefulShutdown"), graceful, once=True
                )
        self._ensure("off", lambda: self.power() == "Off", lambda: self._reset("ForceOff"), timeout)

    def ensure_on(self, timeout: float) -> None:
        """On. Raises EngineUnavailable."""
        self._ensure("on", lambda: self.power() == "On", lambda: self._reset("On"), timeout)

    # -- boot device -----------------------------------------------------------------------------------------------

    def ensure_boot(self, target: str, enabled: str, timeout: float) -> None:
        """Boot from ``Cd``, ``Hdd`` or ``Pxe``, ``Once`` or ``Continuous``. Raises EngineUnavailable.

        It is set in any case: what is read back does not tell for how long it holds.
        """
        done = False

        def act() -> None:
            nonlocal done
            self._set_boot(target, enabled)
            done = True

        self._ensure(f"set to boot from {target}", lambda: done and self._boots_from(target), act, timeout)

    # -- how a step is done ----------------------------------------------------------------------------------------

    def _ensure(
        self, what: str, seen: Callable[[], bool], act: Callable[[], None], timeout: float, *, once: bool = False
    ) -> None:
        """Read; act if needed; watch. Acts again only when the wanted state stays away, and never while nothing is known."""
        deadline = time.monotonic() + timeout
        acted, said = float("-inf"), ""
        while True:
            try:
                if seen():
                    return
                known = True
            except EngineUnavailable as error:
                known, said = False, error.message
            now = time.monotonic()
            if known and now - acted > _ACT_AGAIN and not (once and acted > 0):
                try:
                    acted = now
                    act()
                    continue
                except Busy as error:
                    said, acted = str(error), now - _ACT_AGAIN + 2 * POLL
                except EngineUnavailable as error:
                    said = error.message
            if time.monotonic() > deadline:
                raise EngineUnavailable(
                    f"{self.name}: not {what} after {timeout:.0f} s{': ' + said if said else ''}",
                    "see the exchanges with its BMC in the evidence",
                )
            time.sleep(POLL)

    def _refused(self) -> UsageError:
        """A password is never tried again: accounts are locked after a few."""
        return UsageError(
            f"{self.name}: its BMC refuses the user {self.node.bmc.username!r}", "check the password; it was tried once"
        )

    def _silent(self, error: Exception) -> EngineUnavailable:
        words = str(error).replace(self.node.bmc.address, "its BMC")
        return EngineUnavailable(
            f"{self.name}: {words[:300]}", f"does {urlsplit(self.node.bmc.address).hostname} answer?"
        )
