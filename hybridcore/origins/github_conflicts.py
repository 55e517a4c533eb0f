"""What happens when a file was changed on GitHub since the copy that a write started from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hybridcore.errors import ConfigurationError, ConflictError

if TYPE_CHECKING:
    from collections.abc import Callable

DELETED: Any = type("DELETED", (), {"__repr__": lambda self: "DELETED"})()
"""Stands for a value that is not there: a file that was deleted, or is to be."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A write and what it met.

    - ``ours``: the value to be written, or `DELETED`
    - ``theirs``: the value that is there now, or `DELETED`
    - ``base``: the sha of the blob that the writer started from, None if it never saw the file
    - ``found``: the sha of the blob that is there now, None if there is none
    """

    key: str
    ours: Any = field(repr=False)
    theirs: Any = field(repr=False)
    base: str | None
    found: str | None


Policy: TypeAlias = "Literal['raise', 'ours', 'theirs'] | Callable[[Conflict], Any]"
"""``"raise"`` a `ConflictError`; let ``"ours"`` or ``"theirs"`` stay; or return what is to."""


def checked_policy(policy: Any) -> Callable[[Conflict], Any]:
    """Return the policy as a function.

    Raises:
        ConfigurationError: neither a name nor a function.
    """
    if callable(policy):
        return policy  # type: ignore[no-any-return]
    try:
        return _NAMED[policy]
    except (KeyError, TypeError):
        raise ConfigurationError(
            f'on_conflict is expected to be "raise", "ours", "theirs" or a function, got {policy!r}'
        ) from None


def _refuse(conflict: Conflict) -> Any:
    started = "was not read before" if conflict.base is None else f"was {conflict.base} when read"
    there = "does not exist any more" if conflict.found is None else f"is {conflict.found} now"
    raise ConflictError(
        f"{conflict.key!r} {started} and {there}: nothing was written. Read it again and decide "
        "anew, or choose on_conflict="
    )


_NAMED: dict[Any, Callable[[Conflict], Any]] = {
    "raise": _refuse,
    "ours": lambda conflict: conflict.ours,
    "theirs": lambda conflict: conflict.theirs,
}
