"""Reading a console: what is fatal, what is bad, in whatever pieces it comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.nodes.console import ConsoleWatch, faults, plain_lines

_BOOT = b"[    0.000000] Linux version 6.1\r\n[\x1b[0;32m  OK  \x1b[0m] Reached target \x1b[0;1;39mmulti-user.target\x1b[0m\r\n"


@pytest.mark.parametrize(
    ("line", "means"),
    [
        (
            b"[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
            "the kernel panicked",
        ),
        (b"(initramfs) ", "the initramfs gave up and opened a shell"),
        (b"You are in emergency mode. After logging in", "systemd gave up and opened a shell"),
        (b"\x1b[0mgrub rescue> ", "GRUB found no configuration"),
        (b"BdsDxe: No bootable option or device was found.", "the firmware found nothing to boot"),
        (b"No bootable device.", "the firmware found nothing to boot"),
        (b"dracut:/# ", "dracut gave up and opened a shell"),
    ],
)
def test_fatal_lines_are_known(line: bytes, means: str) -> None:
    watch = ConsoleWatch()
    watch.feed(_BOOT)
    assert watch.fatal is None
    watch.feed(line)
    assert watch.fatal is not None
    assert watch.fatal.means == means


def test_bad_lines_are_told_and_not_fatal() -> None:
    lines = (
        b"[  3.1] EXT4-fs error (device vda1): bad",
        b"[FAILED] Failed to start x",
        b"[  4.0] BUG: unable to handle page",
    )
    console = _BOOT + b"\r\n".join(lines)
    found = faults(console)
    assert [fault.means for fault in found] == ["a filesystem or disk error", "a unit that failed", "a kernel oops"]
    assert not any(fault.fatal for fault in found)


def test_what_is_ignored_is_not_told() -> None:
    assert faults(b"Failed to start x.service\n", [r"x\.service"]) == []


def test_a_new_boot_forgets_the_old() -> None:
    watch = ConsoleWatch()
    watch.feed(b"Kernel panic - not syncing\n")
    watch.forget()
    assert watch.fatal is None


@given(st.binary(max_size=2000), st.lists(st.integers(1, 50), max_size=40))
def test_any_bytes_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    watch = ConsoleWatch()
    rest = data + b"\nKernel panic - not syncing: x\n"
    for cut in cuts:
        watch.feed(rest[:cut])
        rest = rest[cut:]
    watch.feed(rest)
    assert watch.fatal is not None
    assert all(line == line.strip() for line in plain_lines(data))
