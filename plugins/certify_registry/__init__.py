"""``docker://``: images in an OCI registry, read over the distribution protocol."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from certify.hooks import hookimpl

if TYPE_CHECKING:
    from certify.images.candidate import Transport


@hookimpl
def certify_transports() -> Iterable[Transport]:
    from certify_registry.transport import RegistryTransport

    return [RegistryTransport()]
