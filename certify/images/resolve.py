"""From what a user typed to one opened image, exactly once per run."""

from __future__ import annotations

from collections.abc import Iterable

from certify.errors import BadReference
from certify.images.candidate import ImageSource, Transport
from certify.images.oci import file_transports
from certify.images.reference import Reference, parse


class Resolver:
    """Opens references with the file transports and those that plugins bring."""

    def __init__(self, transports: Iterable[Transport]) -> None:
        self._transports = {transport.scheme: transport for transport in (*file_transports(), *transports)}

    def open(self, reference: str | Reference) -> ImageSource:
        """Open one image. The tag is read here and never again: everything later names the digest.

        Raises:
            BadReference: malformed, or no installed plugin reads its transport.
            ImageError: missing, damaged, hostile or for another platform.
            EngineUnavailable: the engine or registry does not answer.
        """
        if isinstance(reference, str):
            reference = parse(reference)
        transport = self._transports.get(reference.transport)
        if transport is None:
            kind = "disk images" if reference.transport == "disk" else f"{reference.transport}: references"
            raise BadReference(f"{reference}: no installed plugin reads {kind}", "see `certify doctor`")
        return transport.open(reference)
