"""The NoCloud seed: a small ISO 9660 disk that cloud-init reads (cloud-init's documentation, "NoCloud")."""

from __future__ import annotations

import io
from pathlib import Path

import pycdlib

from certify.errors import UsageError


def seed_iso(*, instance: str, hostname: str, user_data: bytes, vendor_data: str) -> bytes:
    """The seed. The user-data is given as it is; what certify needs goes into the vendor-data."""
    files = {
        "meta-data": f"instance-id: {instance}\nlocal-hostname: {hostname}\n".encode(),
        "user-data": user_data or b"#cloud-config\n{}\n",
        "vendor-data": vendor_data.encode(),
    }
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=4, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    for name, content in files.items():
        iso.add_fp(io.BytesIO(content), len(content), f"/{name.upper()};1", rr_name=name, joliet_path=f"/{name}")
    out = io.BytesIO()
    iso.write_fp(out)
    iso.close()
    return out.getvalue()


def read_user_data(path: str | None, setting: str) -> bytes:
    """The configured user-data; none without a path. Raises UsageError that names the ``setting``."""
    if path is None:
        return b""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{setting}: {path}: {error.strerror}", "check the path") from None
