"""Conflicts: which of two values of a key stays when neither was made knowing the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from hybridcore.errors import ConfigurationError

Policy = Literal["last_writer_wins", "highest_version", "origin_wins"]


@dataclass(frozen=True, slots=True)
class Versioned:
    """A value of a key, as conflicts are settled between two of them.

    - ``version``: what the write or the load gave, else a stamp of the hybrid logical clock, ns
      since the epoch, of when the write or the load began
    - ``loaded``: whether the origin answered it
    """

    value: Any
    version: int
    loaded: bool


Merge = Callable[[Any, Versioned, Versioned], Any]
"""``merge(key, held, new)`` returns the value that is to stay; called under no lock."""
Conflict = Policy | Merge
"""What becomes of a value that is put while the key is loaded, and of one that comes late.

- ``last_writer_wins``: what was put stays, and of two the one that was put last
- ``highest_version``: the one of the highest version stays, in whatever order they come
- ``origin_wins``: what a load brings stays, also over what was put meanwhile
- a function: is given both, and what it returns stays; if it raises, everything stays as it was
"""


def checked_conflict(policy: Any) -> Conflict:
    """The policy.

    Raises:
        ConfigurationError: there is no such policy.
    """
    if callable(policy) or policy in get_args(Policy):
        return policy  # type: ignore[no-any-return]
    raise ConfigurationError(
        f"conflict is expected to be one of {', '.join(get_args(Policy))}, or a function "
        f"merge(key, held, new), got {policy!r}"
    )


def settled(policy: Conflict, key: Any, held: Versioned, new: Versioned) -> Versioned:
    """What stays of a value that is held and one that was made without knowing it."""
    if policy == "highest_version":
        return new if new.version >= held.version else held
    if policy == "origin_wins":
        return held if held.loaded and not new.loaded else new
    if policy == "last_writer_wins":
        return held if new.loaded else new
    return Versioned(policy(key, held, new), max(held.version, new.version) + 1, new.loaded)
