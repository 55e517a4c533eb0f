"""Invalidation: tags and dependencies, the log of what was invalidated, and who is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hybridcore.invalidation.log import Entry, Scope

__all__ = ["Invalidation", "checked_tags"]


@dataclass(frozen=True, slots=True)
class Invalidation:
    """Something that was invalidated.

    - ``number``: grows by one with each; ``at``: seconds since the epoch
    - ``scope``: ``"key"``, ``"tags"``, ``"prefix"`` or ``"all"``
    - ``hard``: whether it must not be served as a stale copy either
    - ``cause``: ``"put"``, ``"load"``, ``"delete"``, ``"clear"``, or what `invalidate` was given
    - ``node``: a number that stands for the cache object that did it
    """

    number: int
    at: float
    scope: Scope
    keys: tuple[Any, ...]
    tags: tuple[str, ...]
    hard: bool
    cause: str
    node: int

    @classmethod
    def of(cls, entry: Entry, key_of: Callable[[Any], Any]) -> Invalidation:
        """What an entry of the log says."""
        forms = entry.keys[1:] if entry.scope == "prefix" else entry.keys
        return cls(
            entry.number,
            entry.at,
            entry.scope,
            tuple(key_of(form) for form in forms),
            tuple(tag for tag in entry.tags if isinstance(tag, str) and tag[:1] != "\0"),
            entry.hard,
            entry.cause,
            entry.node,
        )


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags, each once.

    Raises:
        ConfigurationError: they are no tags: not str, empty, or beginning with a null character.
    """
    if isinstance(tags, str):
        raise ConfigurationError(f"tags are expected to be several str, got one: {tags!r}")
    found = tuple(dict.fromkeys(tags))
    for tag in found:
        if not isinstance(tag, str) or not tag or tag[0] == "\0":
            raise ConfigurationError(
                f"a tag is expected to be a str that says something, got {tag!r}"
            )
    return found
