"""What a node is made of, gathered in one batch over the shell.

Everything comes from the guest and is untrusted: parsers accept any bytes, skip lines they do not understand and never
raise on content.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from certify.nodes.shell import Result

#: Prints files by the shell's own means: a program of the image that prints them could be missing, or lie.
_SHOW = 'show() { while IFS= read -r l || [ -n "$l" ]; do printf "%s\\n" "$2$l"; done <"$1"; }; '
_SCRIPTS = {
    "os_release": f"{_SHOW}for f in /etc/os-release /usr/lib/os-release; do [ ! -e $f ] || {{ show $f; break; }}; done",
    "packages": "dpkg-query -W -f '${db:Status-Abbrev}\\t${Package}\\t${Version}\\n' 2>/dev/null"
    " || rpm -qa --qf 'ii \\t%{NAME}\\t%{VERSION}-%{RELEASE}\\n' 2>/dev/null"
    " || apk list -I 2>/dev/null | sed -n 's/^\\(.*\\)-\\([0-9][^ ]*-r[0-9]*\\) .*/ii \\t\\1\\t\\2/p'",
    "units": "systemctl list-units --all --full --plain --no-legend --no-pager 2>/dev/null",
    "users": f"{_SHOW}[ ! -e /etc/passwd ] || show /etc/passwd",
    "mounts": f"{_SHOW}show /proc/self/mounts",
    "sockets": f'{_SHOW}for f in tcp tcp6 udp udp6; do [ ! -r /proc/net/$f ] || show /proc/net/$f "$f "; done',
    "sysctls": "sysctl -a 2>/dev/null",
    "config_files": "find /etc -xdev -type f -exec sha256sum {} + 2>/dev/null",
    "kernel": f"{_SHOW}show /proc/sys/kernel/osrelease",
    "boot_id": f"{_SHOW}show /proc/sys/kernel/random/boot_id",
}


@dataclass(frozen=True)
class Unit:
    """One systemd unit as ``systemctl list-units`` shows it."""

    load: str
    active: str
    sub: str


@dataclass(frozen=True)
class User:
    """One line of passwd(5), without the password field."""

    uid: int
    gid: int
    home: str
    shell: str


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mounts."""

    target: str
    source: str
    type: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Socket:
    """One listening TCP socket or bound UDP socket; ``address`` in the usual notation, ``uid`` of its owner."""

    protocol: str
    address: str
    port: int
    uid: int

    @property
    def loopback(self) -> bool:
        """Whether only the node itself can reach it."""
        return self.address.startswith("127.") or self.address in ("::1", "::ffff:127.0.0.1")


@dataclass(frozen=True)
class Facts:
    """A node's facts. Maps are by name: package → version, unit → Unit, user → User, sysctl → value, path below /etc →
    sha256 of the file."""

    os_release: dict[str, str]
    packages: dict[str, str]
    units: dict[str, Unit]
    users: dict[str, User]
    mounts: tuple[Mount, ...]
    sockets: tuple[Socket, ...]
    sysctls: dict[str, str]
    kernel: str
    boot_id: str
    config_files: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The shape of ``facts.json``."""
        return asdict(self)


def gather(run_many: Callable[[Sequence[str]], list[Result]]) -> Facts:
    """Ask a node for all facts in one batch."""
    answers = run_many(list(_SCRIPTS.values()))
    text = {name: answer.text for name, answer in zip(_SCRIPTS, answers, strict=True)}
    return Facts(
        os_release=parse_os_release(text["os_release"]),
        packages=parse_packages(text["packages"]),
        units=parse_units(text["units"]),
        users=parse_users(text["users"]),
        mounts=parse_mounts(text["mounts"]),
        sockets=parse_sockets(text["sockets"]),
        sysctls=parse_sysctls(text["sysctls"]),
        kernel=text["kernel"].strip(),
        boot_id=text["boot_id"].strip(),
        config_files=parse_digests(text["config_files"]),
    )


def parse_os_release(text: str) -> dict[str, str]:
    """os-release(5)."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and key.strip() and not key.startswith("#"):
            try:
                found[key.strip()] = "".join(shlex.split(value))
            except ValueError:
                found[key.strip()] = value.strip()
    return found


def parse_packages(text: str) -> dict[str, str]:
    """Installed packages by name; a package that is only half there (removed, unpacked) does not count."""
    found = {}
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) == 3 and fields[0].startswith("ii"):
            found[fields[1]] = fields[2]
    return found


def parse_units(text: str) -> dict[str, Unit]:
    """``systemctl list-units --plain``: name, load, active and sub state."""
    rows = (line.replace("●", " ").split() for line in text.splitlines())
    return {row[0]: Unit(row[1], row[2], row[3]) for row in rows if len(row) >= 4}


def parse_users(text: str) -> dict[str, User]:
    """passwd(5)."""
    found = {}
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) == 7 and _number(fields[2]) and _number(fields[3]):
            found[fields[0]] = User(int(fields[2]), int(fields[3]), fields[5], fields[6])
    return found


def parse_mounts(text: str) -> tuple[Mount, ...]:
    """/proc/self/mounts, as proc(5) describes it."""
    rows = (line.split(" ") for line in text.splitlines())
    return tuple(Mount(row[1], row[0], row[2], tuple(row[3].split(","))) for row in rows if len(row) >= 4)


def parse_sockets(text: str) -> tuple[Socket, ...]:
    """/proc/net/{tcp,tcp6,udp,udp6} with the protocol before each line: listening TCP and unconnected UDP sockets."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 9 or fields[4] not in ("0A", "07"):
            continue
        protocol, (address, _, port) = fields[0], fields[2].partition(":")
        if (fields[4] == "0A") is not protocol.startswith("tcp") or not _number(fields[8]):
            continue
        try:
            found.append(Socket(protocol, _address(address), int(port, 16), int(fields[8])))
        except ValueError:
            continue
    return tuple(found)


def parse_sysctls(text: str) -> dict[str, str]:
    """``sysctl -a``."""
    pairs = (line.partition(" = ") for line in text.splitlines())
    return {key: value for key, equals, value in pairs if equals}


def parse_digests(text: str) -> dict[str, str]:
    """``sha256sum``: path → hex digest. Names with a newline or backslash in them come escaped and are left out."""
    rows = (line.partition("  ") for line in text.splitlines() if not line.startswith("\\"))
    return {path: digest for digest, gap, path in rows if gap and len(digest) == 64}


def _address(digits: str) -> str:
    import ipaddress

    raw = bytes.fromhex(digits)
    words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    return str(ipaddress.ip_address(words))


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12
