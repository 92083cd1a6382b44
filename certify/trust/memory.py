"""What a verifier remembers beyond TUF's versions: the highest serial of each pointer, and the latest time it has seen.

Whoever holds an approver's key could sign an older pointer as a newer version, and a clock that is set back makes what has
expired look fresh: both are refused.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from msgspec import Struct

from certify.errors import NotVerified, TrustError
from certify.files import read_regular, write_whole
from certify.trust.pointer import Pointer

_MAX = 16 * 1024 * 1024
_SKEW = timedelta(minutes=5)


class _Seen(Struct, frozen=True):
    """The file's content. ``serials`` by target path, with the digest that had the serial; ``latest`` in RFC 3339."""

    serials: dict[str, tuple[int, str]] = {}
    latest: str = ""


class Remembered:
    """One verifier's memory, in a file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "remembered.json"

    def require_time(self, now: datetime) -> None:
        """Raise NotVerified when ``now`` lies before a time that was seen here."""
        latest = self._read().latest
        if latest and now + _SKEW < datetime.fromisoformat(latest):
            raise NotVerified(
                f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, but it has been {latest} here", "set it right"
            )

    def accept(self, pointer: Pointer, now: datetime) -> None:
        """Remember a verified pointer. Raises NotVerified for a serial that was passed before, or had another digest."""
        seen = self._read()
        serial, digest = seen.serials.get(pointer.path, (0, ""))
        if pointer.serial < serial or (pointer.serial == serial and digest != pointer.digest):
            raise NotVerified(
                f"{pointer.path} went back to serial {pointer.serial} ({pointer.digest}); it was at {serial} ({digest})",
                "promote again what is meant to stand there",
            )
        later = max(now.astimezone(UTC).isoformat(timespec="seconds"), seen.latest)
        updated = _Seen({**seen.serials, pointer.path: (pointer.serial, pointer.digest)}, later)
        if updated != seen:
            try:
                write_whole(self._path, msgspec.json.encode(updated), sync=True)
            except OSError as error:
                raise TrustError(f"{self._path}: {error.strerror}", "make it writable; see trust.client") from None

    def _read(self) -> _Seen:
        try:
            return msgspec.json.decode(read_regular(self._path, _MAX), type=_Seen)
        except FileNotFoundError:
            return _Seen()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TrustError(f"{self._path}: unusable ({error})", "restore it from a copy") from None
