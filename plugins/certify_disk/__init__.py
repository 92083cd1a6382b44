"""Disk images: paths as references, what is in them, ext4 from a tree, other formats.

Used by every platform that boots disks, and by none of their SDKs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from certify.hooks import hookimpl

if TYPE_CHECKING:
    from certify.config import Config
    from certify.images.candidate import Transport
    from certify.images.convert import Converter


@hookimpl
def certify_transports(config: Config) -> Iterable[Transport]:
    from certify_disk.transport import DiskTransport

    return [DiskTransport(config.images)]


@hookimpl
def certify_converters() -> Iterable[Converter]:
    from certify_disk.convert import DiskConverter

    return [DiskConverter()]
