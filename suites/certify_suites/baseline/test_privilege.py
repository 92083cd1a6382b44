"""Who may become root: sudo and PAM."""

from __future__ import annotations

import pytest

from certify.nodes.node import Node


@pytest.fixture
def sudoers(system: Node) -> list[str]:
    """Every effective line of sudoers(5) and its include directory."""
    if not system.run("test -r /etc/sudoers").ok:
        pytest.skip("the image has no sudo")
    text = system.run("cat /etc/sudoers /etc/sudoers.d/* 2>/dev/null").text
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def test_sudoers_is_valid(system: Node, sudoers: list[str]) -> None:
    """A syntax error locks everybody out of sudo, at the moment it is needed."""
    answer = system.run("visudo -c -q")
    assert answer.ok, answer.text


@pytest.mark.control("CIS-DEB12-5.2.4")
def test_sudo_asks_for_a_password(sudoers: list[str]) -> None:
    """NOPASSWD turns any hijacked session into root."""
    assert [line for line in sudoers if "NOPASSWD" in line or "!authenticate" in line] == []


@pytest.mark.control("CIS-DEB12-5.2.4")
def test_sudoers_files_are_protected(system: Node, sudoers: list[str]) -> None:
    """Whoever can write a sudoers file is root."""
    lines = system.run("stat -c '%a %u %n' /etc/sudoers /etc/sudoers.d/* 2>/dev/null").lines
    assert [line for line in lines if int(line.split()[0], 8) & 0o037 or line.split()[1] != "0"] == []


@pytest.mark.control("CIS-DEB12-5.3.3.4.1")
def test_pam_refuses_empty_passwords(system: Node) -> None:
    """With nullok, an account whose password is empty logs in."""
    lines = system.run("grep -rnE '^[^#]*pam_unix.*nullok' /etc/pam.d 2>/dev/null").lines
    assert lines == []


def test_pam_modules_exist(system: Node) -> None:
    """A missing module makes every login through its service fail."""
    if not system.run("test -d /etc/pam.d").ok:
        pytest.skip("the image has no PAM")
    names = system.run_many(["grep -rhoE '^(auth|account|password|session)[^#]*pam_[a-z0-9_]+\\.so' /etc/pam.d"])[
        0
    ].lines
    modules = sorted({line.split()[-1] for line in names if not line.startswith("-")})
    present = system.run_many(
        ["ls /lib/security /lib/*/security /usr/lib/security /usr/lib/*/security /usr/lib64/security 2>/dev/null"]
    )[0].lines
    assert sorted(set(modules) - set(present)) == []
