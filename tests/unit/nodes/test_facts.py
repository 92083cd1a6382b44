"""Facts: real output is understood, any output is survived."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from certify.nodes import facts


def test_os_release() -> None:
    parsed = facts.parse_os_release("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n# comment\nVERSION_ID='12'\n")
    assert parsed == {"ID": "debian", "PRETTY_NAME": "Debian GNU/Linux 12", "VERSION_ID": "12"}


def test_packages_count_only_when_installed() -> None:
    assert facts.parse_packages("ii \tbash\t5.2\nrc \told\t1\niU \thalf\t1\n") == {"bash": "5.2"}


def test_units() -> None:
    text = "ssh.service loaded active running OpenBSD\n● bad.service loaded failed failed Bad\nx\n"
    assert facts.parse_units(text)["bad.service"] == facts.Unit("loaded", "failed", "failed")


def test_users() -> None:
    parsed = facts.parse_users("root:x:0:0:root:/root:/bin/bash\nbroken:x\nodd:x:zero:0::/:\n")
    assert parsed == {"root": facts.User(0, 0, "/root", "/bin/bash")}


def test_sockets() -> None:
    head = "tcp   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"
    four = "tcp   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1\n"
    six = "tcp6   0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 0:0 00:0 0     0        0 1\n"
    established = "tcp   1: 0100007F:1F90 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 1\n"
    parsed = facts.parse_sockets(head + four + six + established)
    assert [(s.protocol, s.address, s.port, s.uid, s.loopback) for s in parsed] == [
        ("tcp", "127.0.0.1", 8080, 1000, True),
        ("tcp6", "::1", 22, 0, True),
    ]


def test_mounts() -> None:
    assert facts.parse_mounts("tmpfs /run tmpfs rw,nosuid 0 0\n")[0].options == ("rw", "nosuid")


@given(st.text(max_size=300))
def test_hostile_output_is_survived(text: str) -> None:
    for parse in (
        facts.parse_os_release,
        facts.parse_packages,
        facts.parse_units,
        facts.parse_users,
        facts.parse_mounts,
        facts.parse_sockets,
        facts.parse_sysctls,
    ):
        parse(text)
