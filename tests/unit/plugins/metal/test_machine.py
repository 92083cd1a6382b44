"""A metal node's proof, told by guests that are made up: only a boot that was not seen before, of the right disk, counts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certify.errors import BootFailed, GuestFailed, ShellUnavailable
from certify.nodes.platform import MachineFacts
from certify_metal.bmc.console import NoConsole
from certify_metal.host import machine as module
from certify_metal.host.controller import Attempt
from certify_metal.host.image import BootMedium
from certify_metal.host.machine import MetalMachine
from certify_metal.settings import MetalSettings


class FakeBmc:
    """A BMC whose machine is on."""

    name = "metal-1"
    on = True
    console = NoConsole()

    def power(self) -> str:
        return "On" if self.on else "Off"

    def look_for_off(self, went_off: Callable[[], None]) -> Callable[[], None]:
        return lambda: None if self.on else went_off()

    def ensure_off(self, timeout: float) -> None:
        self.on = False

    def ensure_on(self, timeout: float) -> None:
        self.on = True


class Link:
    """A connection of a guest."""

    def __init__(self, boot: str) -> None:
        self.boot = boot

    def close(self) -> None:
        pass


@pytest.fixture
def attempt() -> Attempt:
    return Attempt(BootMedium(Path("iso"), {}))


@pytest.fixture
def machine(attempt: Attempt, monkeypatch: pytest.MonkeyPatch) -> MetalMachine:
    monkeypatch.setattr(MetalMachine, "_wait_booted", lambda self, deadline: None)
    monkeypatch.setattr(module, "_CHANNEL_SECONDS", 0.2)
    monkeypatch.setattr(module, "GuestChannel", lambda link: link)
    settings = MetalSettings(boot_timeout="1s")
    expected = {"digest": "d", "serial": "root"}
    return MetalMachine(
        FakeBmc(),
        attempt,
        MachineFacts("metal", "metal"),
        settings,
        expected=expected,
        cleanup=lambda: None,  # type: ignore[arg-type]
    )


def says(attempt: Attempt, boot: str, **other: Any) -> None:
    with attempt.changed:
        attempt.guests.append((Link(boot), {"boot_id": boot, "digest": "d", "serial": "root", **other}))  # type: ignore[arg-type]
        attempt.changed.notify_all()


def test_connections_of_earlier_boots_are_no_new_boot(machine: MetalMachine, attempt: Attempt) -> None:
    """Two boots ago counts as little as the last one."""
    for boot in ("one", "two", "three"):
        threading.Timer(0.1, says, (attempt, boot)).start()
        machine.wait_ready()
        says(attempt, boot)
        assert machine.open_channel().boot == boot  # type: ignore[attr-defined]
    with pytest.raises(GuestFailed, match="nothing that was written here has proven itself"):
        machine.power_cycle()


@pytest.mark.parametrize(
    ("what", "told"), [("digest", "booted with digest 'old'"), ("serial", "booted with serial 'old'")]
)
def test_another_image_or_disk_is_not_believed(machine: MetalMachine, attempt: Attempt, what: str, told: str) -> None:
    says(attempt, "one", **{what: "old"})
    with pytest.raises(BootFailed, match=told):
        machine.wait_ready()


def test_a_node_that_goes_off_while_booting(machine: MetalMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeBmc, "on", False)
    with pytest.raises(BootFailed, match="switched itself off"):
        machine.wait_ready()


def test_no_shell(machine: MetalMachine, attempt: Attempt) -> None:
    says(attempt, "one")
    machine.wait_ready()
    machine.open_channel()
    with pytest.raises(ShellUnavailable, match="offers no shell"):
        machine.open_channel()


def test_an_installer_that_boots_again_is_said_at_once(machine: MetalMachine, attempt: Attempt) -> None:
    attempt.tell(again=True)
    with pytest.raises(BootFailed, match="the installer booted again"):
        machine.wait_ready()


def test_whoever_watches_may_end_the_wait(machine: MetalMachine) -> None:
    def enough() -> None:
        raise GuestFailed("enough")

    with pytest.raises(GuestFailed, match="enough"):
        machine.wait_ready(enough)
