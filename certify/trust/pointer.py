"""A pointer: which digest stands on a channel, for one product and architecture. A TUF target, so signed and fresh."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import Struct

from certify.errors import NotVerified

POINTER_SCHEMA = "certify.pointer/v1"


class Pointer(Struct, frozen=True, kw_only=True, rename="camel"):
    """``<channel>/<product>/<arch>.json``, version 1. ``previous`` is the digest that stood there before."""

    schema: str = POINTER_SCHEMA
    channel: str
    product: str
    arch: str
    serial: int
    digest: str
    config_digest: str
    media_type: str
    size: int
    resource_uri: str
    certificates: tuple[str, ...]
    decision: str
    tests: tuple[str, ...]
    not_before: str
    valid_until: str
    previous: str | None = None

    @property
    def path(self) -> str:
        """The TUF target path."""
        return target_path(self.channel, self.product, self.arch)

    def encode(self) -> bytes:
        """As published."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)

    def require_current(self, now: datetime) -> None:
        """Raise NotVerified outside the pointer's own validity."""
        if not (moment(self.not_before) <= now + timedelta(minutes=5) and now < moment(self.valid_until)):
            raise NotVerified(
                f"{self.path}: {self.digest} was blessed from {self.not_before} until {self.valid_until}",
                "run the suites again and promote",
            )

    def to_json(self) -> dict[str, Any]:
        """The shape ``certify channels --json`` prints."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return document


def decode(data: bytes) -> Pointer:
    """Read a published pointer. Raises NotVerified."""
    try:
        return msgspec.json.decode(data, type=Pointer)
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotVerified(f"malformed pointer ({error})", "the channel repository is damaged; promote again") from None


def target_path(channel: str, product: str, arch: str) -> str:
    """Where a pointer is published."""
    return f"{channel}/{product}/{arch}.json"


def moment(text: str) -> datetime:
    """An RFC 3339 time stamp as an aware datetime."""
    return datetime.fromisoformat(text).astimezone(UTC)


def stamp(when: datetime) -> str:
    """RFC 3339 with seconds, UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
