"""What a queue's journal holds beside its writes: claims, verdicts, and how much there is."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from hybridcore._native.writes import Write

MOST_LEVELS = 16

HEADER = struct.Struct("<QQqqBBBxI")
"""Of a write as `Write.row` makes it: checksum of what follows, number of the write, when it was
taken (monotonic, wall clock; ns), level, flags, codec, size of the key form."""
LEVEL_AT = 32
NUMBER = struct.Struct(">Q")
_TALLY = struct.Struct(f"<{2 * MOST_LEVELS + 3}q")


class Claimed(NamedTuple):
    """A write under way: what it is, which attempt this is, and what the last one failed of."""

    write: Write
    attempt: int
    error: str


class Verdict(NamedTuple):
    """What becomes of an attempt that failed.

    ``again_in`` seconds it is to be tried again, never if None; ``counts`` is whether it was an
    attempt at all.
    """

    place: int
    number: int
    attempt: int
    error: BaseException
    again_in: float | None = None
    counts: bool = True
    reason: str = ""


@dataclass(slots=True)
class Tally:
    """How many writes there are, and of how many bytes: by level, and dead.

    ``next`` is the place and the number of the write that comes next.
    """

    items: list[int]
    sizes: list[int]
    dead: int
    dead_bytes: int
    next: int

    @property
    def depth(self) -> int:
        """Writes that wait or are under way."""
        return sum(self.items)

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(self.sizes)

    @classmethod
    def none(cls) -> Tally:
        """Nothing."""
        return cls([0] * MOST_LEVELS, [0] * MOST_LEVELS, 0, 0, 1)

    @classmethod
    def unpack(cls, data: bytes | None) -> Tally:
        """What was stored; nothing, if nothing was."""
        if data is None:
            return cls.none()
        numbers = _TALLY.unpack(data)
        return cls(
            list(numbers[:MOST_LEVELS]),
            list(numbers[MOST_LEVELS : 2 * MOST_LEVELS]),
            *numbers[2 * MOST_LEVELS :],
        )

    def pack(self) -> bytes:
        """What to store."""
        return _TALLY.pack(*self.items, *self.sizes, self.dead, self.dead_bytes, self.next)
