"""Which candidates are booted where: references resolved once, platforms chosen and checked before anything boots."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from certify.errors import DigestMismatch, UsageError
from certify.images.candidate import Candidate, ImageSource
from certify.images.reference import Reference, parse
from certify.images.resolve import Resolver
from certify.nodes.platform import Platform, PlatformKind


@dataclass(frozen=True, eq=False)
class PlannedTarget:
    """One candidate on one platform. ``id`` is what stands in brackets behind a check's name.

    Two are never equal: pytest makes fixtures anew for a target that is another object (see ``collection.set_apart``).
    """

    id: str
    source: ImageSource
    platform: Platform

    def __repr__(self) -> str:
        """Reports show what a check ran with, and find its history by it."""
        return self.id

    @property
    def candidate(self) -> Candidate:
        """The image."""
        return self.source.candidate


def resolve(references: Iterable[str], resolver: Resolver, pinned: Sequence[str] = ()) -> list[ImageSource]:
    """Open each reference once. ``pinned`` digests (of the process that resolved first) are held to, tag or no tag."""
    texts = list(dict.fromkeys(references))
    if not pinned:
        return [resolver.open(text) for text in texts]
    return [_open_pinned(parse(text), digest, resolver) for text, digest in zip(texts, pinned, strict=True)]


def _open_pinned(reference: Reference, digest: str, resolver: Resolver) -> ImageSource:
    narrowed = reference
    if reference.transport == "docker-daemon":
        narrowed = Reference("docker-daemon", "", digest=digest)
    elif reference.transport == "docker":
        narrowed = dataclasses.replace(reference, tag=None, digest=digest)
    source = resolver.open(narrowed)
    if source.candidate.digest != digest:
        raise DigestMismatch(f"{reference} changed while the run was starting", "start again")
    source.candidate = dataclasses.replace(source.candidate, reference=reference)
    return source


def choose(
    sources: Iterable[ImageSource],
    platforms: Sequence[Platform],
    kinds: Mapping[str, PlatformKind],
    wanted: Sequence[str],
) -> list[PlannedTarget]:
    """Every candidate on every wanted platform, or on the first one for its kind.

    Raises UsageError for a platform that is unknown, or whose driver is not installed or cannot boot a candidate.
    """
    for name in wanted:
        if name not in kinds:
            near = get_close_matches(name, kinds, 1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(kinds)}"
            raise UsageError(f"--platform {name}: no such platform", hint)
    pairs: list[tuple[ImageSource, Platform]] = []
    for source in sources:
        for name in wanted or [_first_for(source.candidate, kinds)]:
            platform = _driven(name, platforms)
            reason = platform.why_not(source.candidate)
            if reason:
                raise UsageError(f"{source.candidate.reference} on {name}: {reason}", "choose with --platform")
            if (source.candidate.digest, name) not in {(s.candidate.digest, p.name) for s, p in pairs}:
                pairs.append((source, platform))
    ids = [_ids(source.candidate, platform) for source, platform in pairs]
    taken = Counter(one for mine in ids for one in set(mine))  # what has no tag is called the same with it
    return [
        PlannedTarget(next((one for one in mine if taken[one] == 1), mine[-1]), source, platform)
        for mine, (source, platform) in zip(ids, pairs, strict=True)
    ]


def _ids(candidate: Candidate, platform: Platform) -> tuple[str, str, str]:
    """What a target may be called, the shortest first: a tag is in it only where two of a run differ by it, so that a check's
    history goes on from one build to the next."""
    name, tagged = (_plain(text) for text in (candidate.reference.name, candidate.short))
    return tuple(f"{n}-{platform.name}" for n in (name, tagged, f"{tagged}@{candidate.digest[7:15]}"))  # type: ignore[return-value]


def _plain(text: str) -> str:
    """In letters that pytest leaves as they are."""
    return re.sub(r"[^A-Za-z0-9_.:@+-]+", "-", text)


def _first_for(candidate: Candidate, kinds: Mapping[str, PlatformKind]) -> str:
    """The platform that boots it when nobody names one. Raises UsageError."""
    first = [kind.name for kind in kinds.values() if candidate.kind in kind.first_for]
    if len(first) == 1:
        return first[0]
    what = f"{' and '.join(first)} are both first for" if first else "no platform is first for"
    raise UsageError(f"{candidate.reference}: {what} {candidate.kind} images", "name one: --platform")


def _driven(name: str, platforms: Sequence[Platform]) -> Platform:
    """The platform of that name whose driver certify.yaml asks for. Raises UsageError."""
    there = [platform for platform in platforms if platform.name == name]
    meant = [platform for platform in there if platform.driver == platform.settings.driver]
    if len(meant) > 1:
        raise UsageError(f"two installed plugins drive {name} by {meant[0].driver!r}", "uninstall one of them")
    if meant:
        return meant[0]
    if not there:
        raise UsageError(f"platform {name}: its driver's libraries are not installed", "`certify doctor` says how")
    asked, drivers = there[0].settings.driver, ", ".join(platform.driver for platform in there)
    raise UsageError(f"platforms.{name}.driver: there is no {asked!r}", f"installed: {drivers}")
