"""What this machine remembers from one call to the next, so that nothing that went back is believed.

Whoever holds an approver's key could sign an older pointer as a newer version, and a clock that is set back makes what has
expired look fresh: a verifier remembers the highest serial of each pointer and the latest time it has seen. Writers
(:mod:`certify.trust.published`), signers (:mod:`certify.trust.certificates`) and deployers (:mod:`certify.trust.sealed`)
remember documents of their own. Damaged memory is refused, never taken for none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from certify.errors import MemoryUnusable, NotVerified
from certify.files import read_regular, write_whole
from certify.locks import locked
from certify.trust.pointer import Pointer

_MAX = 64 * 1024 * 1024
_SKEW = timedelta(minutes=5)
_NEVER = datetime.min.replace(tzinfo=UTC)
T = TypeVar("T")


class Remembered(Generic[T]):
    """One document of the shape ``kind``, in a file; ``first`` until something was kept."""

    def __init__(self, path: Path, kind: type[T], first: T) -> None:
        self._path = path
        self._kind = kind
        self._first = first

    def read(self) -> T:
        """What was kept last. Raises MemoryUnusable for a damaged file."""
        try:
            return msgspec.json.decode(read_regular(self._path, _MAX), type=self._kind)
        except FileNotFoundError:
            return self._first
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise MemoryUnusable(f"{self._path}: unusable ({error})", "restore it from a copy") from None

    def keep(self, document: T) -> None:
        """Remember, on the disk when this returns. For whoever holds :meth:`mine`. Raises MemoryUnusable."""
        try:
            write_whole(self._path, msgspec.json.encode(document), sync=True, mode=0o600)
        except OSError as error:
            raise self._unwritable(error) from None

    @contextmanager
    def mine(self) -> Iterator[None]:
        """Keep other processes from changing it meanwhile. Raises MemoryUnusable."""
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self._path.with_suffix(".lock")))
            except OSError as error:
                raise self._unwritable(error) from None
            yield

    def update(self, change: Callable[[T], T]) -> None:
        """Remember what ``change`` makes of what is remembered now. Raises MemoryUnusable."""
        with self.mine():
            known = self.read()
            changed = change(known)
            if changed != known:
                self.keep(changed)

    def _unwritable(self, error: OSError) -> MemoryUnusable:
        return MemoryUnusable(
            f"{self._path}: cannot be written ({error.strerror})", "make it writable, and room on its disk"
        )


class Seen(Struct, frozen=True):
    """``serials`` by target path, with the digest that had the serial; ``latest``: the latest time that was seen."""

    serials: dict[str, tuple[int, str]] = {}
    latest: Annotated[datetime, Meta(tz=True)] | None = None


class VerifiersMemory:
    """One verifier's: nothing that goes back is accepted."""

    def __init__(self, folder: Path) -> None:
        self._seen = Remembered(folder / "remembered.json", Seen, Seen())

    def require_time(self, now: datetime) -> None:
        """Raise NotVerified when ``now`` lies before a time that was seen here."""
        latest = self._seen.read().latest
        if latest and now + _SKEW < latest:
            raise NotVerified(
                f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, but it has been {latest:%Y-%m-%d %H:%M} here",
                "set it right",
            )

    def accept(self, pointer: Pointer, now: datetime) -> None:
        """Remember a verified pointer. Raises NotVerified for a serial that was passed before, or had another digest."""
        self._seen.update(partial(_accepted, pointer, now))


def _accepted(pointer: Pointer, now: datetime, seen: Seen) -> Seen:
    """What is remembered with a pointer more. Raises NotVerified."""
    serial, digest = seen.serials.get(pointer.path, (0, ""))
    if pointer.serial < serial or (pointer.serial == serial and digest != pointer.digest):
        raise NotVerified(
            f"{pointer.path} went back to serial {pointer.serial} ({pointer.digest}); it was at {serial} ({digest})",
            "promote again what is meant to stand there",
        )
    later = max(now.astimezone(UTC).replace(microsecond=0), seen.latest or _NEVER)
    return Seen({**seen.serials, pointer.path: (pointer.serial, pointer.digest)}, later)
