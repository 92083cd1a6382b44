"""The seed that a metal node gets beside its image: cloud-init starts :mod:`certify_metal.node.guest` from it on every boot."""

from __future__ import annotations

from importlib import resources
from typing import Any

import msgspec

from certify_disk.seed import seed_iso

_UNIT = """[Unit]
Description=certify: proof and shells
DefaultDependencies=no
[Service]
ExecStart=/usr/bin/env python3 /run/certify/guest.py /run/certify/config.json
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
Restart=on-failure
RestartSec=1
KillMode=control-group
OOMScoreAdjust=-900
"""


def metal_seed(config: dict[str, Any], *, instance: str, hostname: str, user_data: bytes) -> bytes:
    """``config`` is what the guest needs to find home: host, port, token, certificate, digest, and
    after how many seconds of vain search to ``give_up`` (None: never)."""
    guest = (resources.files("certify_metal.node") / "guest.py").read_text()
    files = {
        "/run/certify/guest.py": guest,
        "/run/certify/config.json": msgspec.json.encode(config).decode(),
        "/run/systemd/system/certify-guest.service": _UNIT,
    }
    writes = "".join(f"cat >{path} <<'CERTIFY'\n{text.rstrip()}\nCERTIFY\n" for path, text in files.items())
    hook = f"""#cloud-boothook
#!/bin/sh
[ -e /run/certify/guest.py ] && exit 0
umask 077; mkdir -p /run/certify
{writes}chmod 644 /run/systemd/system/certify-guest.service
systemctl daemon-reload; systemctl start --no-block certify-guest.service
"""
    return seed_iso(instance=instance, hostname=hostname, user_data=user_data, vendor_data=hook)
