"""The header of a queue's rows, as Python reads it, and what becomes of an attempt that failed."""

from __future__ import annotations

import struct
from typing import NamedTuple

MOST_LEVELS = 16

HEADER = struct.Struct("<QQqqBBBxI")
"""Of a write as `Write.row` makes it: checksum of what follows, number of the write, when it was
taken (monotonic, wall clock; ns), level, flags, codec, size of the key form."""
LEVEL_AT = 32
NUMBER = struct.Struct(">Q")


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
