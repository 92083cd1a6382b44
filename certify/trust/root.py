"""The root of trust: which root metadata is believed on this machine, and how it came to be.

``certify init`` pins the root of the repository it makes. Elsewhere ``trust.root`` names a root that was brought on a safe
way; without it, the first use asks a person to compare the fingerprint, and where nobody can be asked it refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from certify.config import Trust
from certify.errors import MemoryUnusable, NotVerified
from certify.files import read_regular, write_whole
from certify.images.candidate import digest_of

_MAX = 1024 * 1024
#: Told the root's fingerprint; says whether it is the right one.
Confirm = Callable[[str], bool]


def nobody(fingerprint: str) -> bool:
    """The answer where nobody can be asked."""
    del fingerprint
    return False


class Root:
    """One machine's trusted root."""

    def __init__(self, trust: Trust, confirm: Confirm = nobody) -> None:
        self._trust = trust
        self._confirm = confirm
        self._pinned = Path(trust.client) / "pinned.root.json"

    def pin(self, document: bytes) -> None:
        """Believe this root from now on. Raises NotVerified where another is believed."""
        known = self._known()
        if known is not None and known != document:
            raise NotVerified(
                f"{self._pinned}: this machine believes another root ({digest_of(known)})",
                f"if the new one is right, remove {self._trust.client} and start again",
            )
        write_whole(self._pinned, document, sync=True)

    def is_first(self, document: Path) -> bool:
        """Whether no root is believed here yet, or exactly the one in this file."""
        known = self._known()
        return known is None or (document.exists() and known == read_regular(document, _MAX))

    def _known(self) -> bytes | None:
        """The root that is believed here. Raises MemoryUnusable for a damaged file."""
        try:
            known = read_regular(self._pinned, _MAX)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MemoryUnusable(f"{self._pinned}: unusable ({error})", "restore it from a copy") from None
        if not known:
            raise MemoryUnusable(f"{self._pinned}: it is empty", "restore it from a copy")
        return known

    def require(self) -> bytes:
        """The root metadata to start from. Raises NotVerified when there is none that may be believed, or when the one that
        ``trust.root`` names is another than was believed before."""
        pinned = self._known()
        if self._trust.root is not None:
            named = self._read(Path(self._trust.root))
            if pinned is not None and pinned != named:
                raise NotVerified(
                    f"trust.root names {digest_of(named)}, but this machine believes {digest_of(pinned)}",
                    f"if the new one is right, remove {self._trust.client} and start again",
                )
            if pinned is None:
                self.pin(named)
            return named
        return self._first_use() if pinned is None else pinned

    def _first_use(self) -> bytes:
        offered = Path(self._trust.repository) / "metadata" / "1.root.json"
        document = self._read(offered)
        if not self._confirm(digest_of(document)):
            raise NotVerified(
                f"{offered} was never used on this machine before, and nobody said that it is the right root",
                f"compare {digest_of(document)} with the one that made the repository, then name a copy in trust.root",
            )
        self.pin(document)
        return document

    @staticmethod
    def _read(path: Path) -> bytes:
        try:
            return read_regular(path, _MAX)
        except OSError as error:
            raise NotVerified(
                f"{path}: no channel repository there ({error.strerror})",
                "cd to the project, or make one with `certify init`",
            ) from None
