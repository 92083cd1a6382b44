"""When a container counts as booted, by mode.

``init``: systemd says that its boot is over (``systemctl is-system-running --wait``, an event). ``service``: healthy by
its own HEALTHCHECK, else every declared TCP port listens. ``idle``: a shell answers.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from certify.errors import BootFailed, CertifyError, CommandTimeout, GuestFailed, ShellUnavailable
from certify.nodes.facts import parse_sockets
from certify.nodes.platform import ShellChannel
from certify.nodes.shell import Shell
from certify_docker import inotify

_POLL = 0.05
_TOO_MANY = b"Too many open files"
_LISTENING = "for f in tcp tcp6; do [ -r /proc/net/$f ] && while read -r l; do echo $f $l; done </proc/net/$f; done"


class BootingContainer(Protocol):
    """What is asked of a container while it boots; each as :class:`certify_docker.machine.DockerMachine` has it."""

    def open_channel(self) -> ShellChannel: ...

    def console(self) -> bytes: ...

    def state(self) -> dict[str, Any]: ...

    def why_dead(self) -> str | None: ...

    @property
    def at_fault(self) -> bool: ...


def wait_ready(machine: BootingContainer, mode: str, config: dict[str, Any], deadline: float) -> ShellChannel | None:
    """Wait until ready; returns the channel that was asked over, for the node to go on with.

    Raises GuestFailed when process 1 ends by itself, BootFailed when it is ended or the deadline (monotonic clock) passes.
    """
    shell = Shell(machine.open_channel, timeout=max(1.0, deadline - time.monotonic()))
    asked = {"init": _init_ready, "service": _service_ready}.get(mode, _shell_answers)
    waiting_for = "its first answer"
    try:
        while time.monotonic() < deadline:
            try:
                waiting_for = asked(machine, shell, config)
                if not waiting_for:
                    return shell.detach()
            except ShellUnavailable as error:
                waiting_for = f"a shell ({error.message})"
            except CommandTimeout:  # the node lives, and has not come that far
                waiting_for = {"init": "systemd"}.get(mode, waiting_for)
            reason = machine.why_dead()
            if reason:
                raise _ended(machine, reason)
            time.sleep(_POLL)
    finally:
        shell.close()
    if _is_short_of_inotify(machine):
        raise _short()
    raise BootFailed(
        f"not ready in time: still waiting for {waiting_for}; last words: {last_words(machine)}",
        "see its console log in the evidence; boot_timeout in certify.yaml gives it more time",
    )


def _ended(machine: BootingContainer, reason: str) -> CertifyError:
    """What it means that process 1 is gone: the image's own doing is a failed check, with its console."""
    kind: type[CertifyError] = GuestFailed if machine.at_fault else BootFailed
    if _is_short_of_inotify(machine):
        return _short()
    error = kind(f"{reason} while booting; last words: {last_words(machine)}", "try it with `docker run`")
    error.console = machine.console()
    return error


def _is_short_of_inotify(machine: BootingContainer) -> bool:
    """Whether systemd says that it gets none, and that is so: then the host is at fault, whatever the image looks like."""
    return _TOO_MANY in machine.console() and inotify.is_short(inotify.most())


def _short() -> BootFailed:
    return BootFailed("this host has no inotify instances left for a container's systemd", inotify.REMEDY)


def _shell_answers(machine: BootingContainer, shell: Shell, config: dict[str, Any]) -> str:
    del machine, config
    return "" if shell.run("true").ok else "a working shell"


def _init_ready(machine: BootingContainer, shell: Shell, config: dict[str, Any]) -> str:
    del machine, config
    answer = shell.run("command -v systemctl >/dev/null || { echo none; exit; }; systemctl is-system-running --wait")
    state = answer.text.strip()
    return "" if state in ("running", "degraded", "maintenance", "none") else f"systemd (state {state or 'unknown'})"


def _service_ready(machine: BootingContainer, shell: Shell, config: dict[str, Any]) -> str:
    if (config.get("Healthcheck") or {}).get("Test", ["NONE"])[0] != "NONE":
        status = (machine.state().get("Health") or {}).get("Status")
        return "" if status == "healthy" else f"its HEALTHCHECK (status {status})"
    declared = {int(port.split("/")[0]) for port in config.get("ExposedPorts") or () if port.endswith("/tcp")}
    open_now = {s.port for s in parse_sockets(shell.run(_LISTENING).text)}
    missing = sorted(declared - open_now)
    return f"port {missing[0]}/tcp to listen" if missing else ""


def last_words(machine: BootingContainer) -> str:
    """The end of the console, on one line, printable."""
    text = machine.console()[-600:].decode("utf-8", "replace")
    line = " | ".join(part.strip() for part in text.splitlines() if part.strip())
    return "".join(c if c.isprintable() else "?" for c in line)[-300:] or "none"
