"""How a shell comes to run in a guest whose image knows nothing of certify.

Every way ends in the same place: interpreters (``sh``) that sit on virtio-serial ports, two ports each, so that commands
need no network, no ssh and no password. What differs is who starts them:

1. systemd credentials by SMBIOS (systemd.system-credentials(7), ``tmpfiles.extra``): unit files in /run, started when a
   port is plugged in (``ENV{SYSTEMD_WANTS}``); nothing is written outside /run;
2. cloud-init, by a NoCloud seed disk (vendor-data, so that the user-data stays the user's);
3. the qemu guest agent (``guest-exec``);
4. a login on the serial console, with an account from certify.yaml.

Where the kernel comes from outside (a container image booted as a machine), systemd's debug shell is asked first.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

SLOTS = 6
#: Written to the serial console when the files of way 1 are in place; says when a port is worth plugging in.
MARKER = "certify: files in place"
AGENT_PORT = "org.qemu.guest_agent.0"
WAKE = "certify.wake"
_TARGET = "certify-shells.target"
_PROMPT = r"[#$] ?$"
#: With a kernel from outside its command line is ours: systemd's debug shell on the second serial port starts the rest.
#: No login prompts: without a device manager in the image, systemd would wait for their terminals in vain.
DEBUG_SHELL = "systemd.debug_shell=ttyS1 systemd.getty_auto=no"

_SHELL_UNIT = """[Unit]
Description=certify shell %i
DefaultDependencies=no
StartLimitIntervalSec=0
[Service]
ExecStart=/bin/sh -c 'exec /bin/sh <>/dev/virtio-ports/certify.%i >&0 2<>/dev/virtio-ports/certify.%i.err'
WorkingDirectory=/
Environment=HOME=/root USER=root LOGNAME=root SHELL=/bin/sh
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
Restart=always
RestartSec=100ms
KillSignal=SIGKILL
OOMScoreAdjust=-900
"""
_TARGET_UNIT = "[Unit]\nDescription=certify shells\nDefaultDependencies=no\nWants=" + " ".join(
    f"certify-shell@{slot}.service" for slot in range(SLOTS)
)
_RULE = f'SUBSYSTEM=="virtio-ports", ATTR{{name}}=="{WAKE}*", TAG+="systemd", ENV{{SYSTEMD_WANTS}}+="{_TARGET}"'
_FILES = {
    "/run/systemd/system/certify-shell@.service": _SHELL_UNIT,
    f"/run/systemd/system/{_TARGET}": _TARGET_UNIT + "\n",
    "/run/udev/rules.d/99-certify.rules": _RULE + "\n",
}


@dataclass(frozen=True)
class Port:
    """Names of the two ports of one shell: ``both`` carries commands and their output, ``errors`` standard error."""

    both: str
    errors: str


def shell_ports() -> list[Port]:
    """The ports of every shell slot."""
    return [Port(f"certify.{slot}", f"certify.{slot}.err") for slot in range(SLOTS)]


def credentials() -> list[str]:
    """SMBIOS type 11 strings for systemd ≥ 252 (way 1)."""
    lines = [f"d {folder} 0755 root root - -" for folder in ("/run/systemd/system", "/run/udev", "/run/udev/rules.d")]
    lines += [f"f+ {path} 0644 root root - {_escaped(text)}" for path, text in _FILES.items()]
    lines.append(f"w /dev/ttyS0 - - - - {_escaped(MARKER + chr(10))}")
    encoded = base64.b64encode(("\n".join(lines) + "\n").encode()).decode()
    return [f"io.systemd.credential.binary:tmpfiles.extra={encoded}"]


def _escaped(text: str) -> str:
    """tmpfiles.d(5): C-style escapes, and specifiers doubled."""
    return text.replace("\\", "\\\\").replace("%", "%%").replace("\n", "\\n")


def bootstrap() -> str:
    """The script that starts the shells, for the ways that run commands. Repeating it does nothing.

    It returns at once; without systemd the interpreters are kept by a loop.
    """
    units = {path: text for path, text in _FILES.items() if path.endswith((".service", ".target"))}
    writes = "".join(f"cat >{path} <<'CERTIFY'\n{text}CERTIFY\n" for path, text in units.items())
    return f"""[ -e /run/certify-shells ] && exit 0
: >/run/certify-shells
modprobe virtio_console 2>/dev/null
mkdir -p /dev/virtio-ports
for d in /sys/class/virtio-ports/*; do
read -r n <$d/name && [ ! -e /dev/virtio-ports/$n ] && ln -s ../${{d##*/}} /dev/virtio-ports/$n
done
if [ -d /run/systemd/system ] && command -v systemctl >/dev/null; then
{writes}systemctl daemon-reload; systemctl start --no-block {_TARGET}
else
i=0; while [ $i -lt {SLOTS} ]; do
( p=/dev/virtio-ports/certify.$i; export HOME=/root
while [ -e $p ]; do setsid sh <>$p >&0 2<>$p.err; sleep 0.2; done ) </dev/null >/dev/null 2>&1 &
i=$((i+1)); done
fi
"""


def vendor_data() -> str:
    """A boothook for way 2: cloud-init runs it early on every boot, and no user-data can replace it by merging."""
    return f"#cloud-boothook\n#!/bin/sh\n{bootstrap()}"


def typed(user: str, password: str) -> list[tuple[str, str]]:
    """Way 4 as a dialogue: what to wait for on the console, and what to type then."""
    return [(r"login: ?$", user), (r"[Pp]assword: ?$", password), *typed_script(), (_PROMPT, "exit")]


def typed_script() -> list[tuple[str, str]]:
    """The script as a dialogue with a shell that is there already; a terminal takes short lines only."""
    script = base64.b64encode(bootstrap().encode()).decode()
    pieces = [script[at : at + 512] for at in range(0, len(script), 512)]
    feed = [(_PROMPT, f"printf %s {piece} >>/run/.certify") for piece in pieces]
    return [*feed, (_PROMPT, "base64 -d </run/.certify >/run/.certify.sh; sh /run/.certify.sh")]
