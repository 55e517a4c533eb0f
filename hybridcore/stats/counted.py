"""What snapshots of counters have in common: ``after - before`` is what was counted in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from typing_extensions import Self


class Counted:
    """An immutable snapshot; ``after - before`` has the counts of the time between two of a kind.

    What tells a state and no count, such as a number of entries, is that of ``after``.
    """

    __slots__ = ()

    STATES: ClassVar[frozenset[str]] = frozenset()
    """Names of the fields that are no counts."""

    def __sub__(self, before: Self) -> Self:
        if type(before) is not type(self):
            return NotImplemented
        made: Any = self  # a dataclass, as all subclasses are
        counts = (field.name for field in fields(made) if field.name not in self.STATES)
        less = {name: less_by(getattr(self, name), getattr(before, name)) for name in counts}
        return replace(made, **less)  # type: ignore[no-any-return]


def less_by(after: Any, before: Any) -> Any:
    """The difference of numbers, of snapshots, and of mappings to them; None is none."""
    if after is None or before is None:
        return after
    if isinstance(after, Mapping):
        return {name: less_by(value, before.get(name)) for name, value in after.items()}
    return after - before
