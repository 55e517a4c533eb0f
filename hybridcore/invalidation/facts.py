"""What an entry carries along with its tags, wherever these go: its version, and how it slides.

A tag that begins with a null is none of the application's. Those of keys are in
`hybridcore.invalidation.log`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_VERSION, _SLIDES = "\0version ", "\0slides "


class Sliding(NamedTuple):
    """How an entry slides: seconds from use to use, and the ns of the clock when it ends anyway."""

    ttl: float
    until: int | None


def version_fact(version: int) -> str:
    """What says of which version an entry is."""
    return f"{_VERSION}{version}"


def version_of(tags: Iterable[Any]) -> int | None:
    """The version that an entry says it is of."""
    for tag in tags:
        if isinstance(tag, str) and tag.startswith(_VERSION):
            return int(tag[len(_VERSION) :])
    return None


def sliding_fact(ttl: float, until: int | None) -> str:
    """What says how an entry slides."""
    return f"{_SLIDES}{ttl!r} {until or ''}"


def sliding_of(tags: Iterable[Any]) -> Sliding | None:
    """How an entry says that it slides."""
    for tag in tags:
        if isinstance(tag, str) and tag.startswith(_SLIDES):
            ttl, _, until = tag[len(_SLIDES) :].partition(" ")
            return Sliding(float(ttl), int(until) if until else None)
    return None


def without_facts(tags: Iterable[Any]) -> list[Any]:
    """The tags that what depends on the entry takes over."""
    return [
        tag for tag in tags if not (isinstance(tag, str) and tag.startswith((_VERSION, _SLIDES)))
    ]
