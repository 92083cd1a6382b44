"""The qemu guest agent (QEMU Guest Agent Protocol Reference): one order, to start the shells."""

from __future__ import annotations

import base64
from typing import Any

import libvirt
import libvirt_qemu
import msgspec

_SECONDS = 2


def guest_exec(domain: Any, script: str) -> bool:
    """Have the agent run ``script`` with ``sh``. False when no agent answers, or it refuses."""
    order = {
        "execute": "guest-exec",
        "arguments": {"path": "/bin/sh", "input-data": base64.b64encode(script.encode()).decode(), "arg": ["-s"]},
    }
    try:
        libvirt_qemu.qemuAgentCommand(domain, msgspec.json.encode(order).decode(), _SECONDS, 0)
        return True
    except libvirt.libvirtError:  # not there, not yet, or not allowed to run programs: another way is tried
        return False
