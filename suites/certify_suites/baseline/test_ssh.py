"""The ssh server's effective settings (``sshd -T``)."""

from __future__ import annotations

from typing import Any

import pytest

_WEAK = (
    "3des",
    "arcfour",
    "blowfish",
    "cast128",
    "-cbc",
    "hmac-md5",
    "sha1-96",
    "diffie-hellman-group1-",
    "group14-sha1",
)


@pytest.mark.control("CIS-DEB12-5.1.20")
def test_ssh_refuses_root(sshd: dict[str, str]) -> None:
    """Root logins hide who did it."""
    assert sshd["permitrootlogin"] in ("no", "without-password", "prohibit-password", "forced-commands-only")
    assert sshd["permitrootlogin"] == "no"


def test_ssh_takes_keys_only(sshd: dict[str, str]) -> None:
    """Passwords are guessed around the clock."""
    assert sshd["passwordauthentication"] == "no"


@pytest.mark.control("CIS-DEB12-5.1.19")
def test_ssh_refuses_empty_passwords(sshd: dict[str, str]) -> None:
    """An empty password is no password."""
    assert sshd["permitemptypasswords"] == "no"


def test_ssh_does_not_forward_x11(sshd: dict[str, str]) -> None:
    """X11 forwarding hands a server's intruder the administrator's desktop."""
    assert sshd["x11forwarding"] == "no"


@pytest.mark.control("CIS-DEB12-5.1.16")
def test_ssh_limits_tries(sshd: dict[str, str], settings: dict[str, Any]) -> None:
    """Few tries per connection slow guessing down."""
    assert int(sshd["maxauthtries"]) <= settings["ssh_max_auth_tries"]


@pytest.mark.control("CIS-DEB12-5.1.6")
def test_ssh_offers_no_weak_cryptography(sshd: dict[str, str]) -> None:
    """An attacker on the path picks the weakest that both sides offer."""
    offered = [name for key in ("ciphers", "macs", "kexalgorithms") for name in sshd.get(key, "").split(",")]
    assert [name for name in offered if any(weak in name for weak in _WEAK)] == []
