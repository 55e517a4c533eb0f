"""What a queue's journal holds: writes as they are taken, stored, claimed and settled."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from hybridcore.errors import DecodeError

MOST_LEVELS = 16

HEADER = struct.Struct("<QQqqBBBxI")
"""Checksum of what follows, number of the write, when it was taken (monotonic, wall clock; ns),
level, flags, codec, size of the key form."""
LEVEL_AT = 32
NUMBER = struct.Struct(">Q")
_TALLY = struct.Struct(f"<{2 * MOST_LEVELS + 2}q")
_DELETES = 0x80


class Write:
    """A write as it is stored: key and value encoded, numbered when it is taken."""

    __slots__ = (
        "codec",
        "deletes",
        "flags",
        "form",
        "instead",
        "level",
        "mono",
        "payload",
        "size",
        "waited",
        "wall",
    )

    def __init__(
        self, form: bytes, level: int, codec: int, flags: int, payload: bytes, deletes: bool
    ) -> None:
        self.form = form
        self.level = level
        self.codec = codec
        self.flags = flags
        self.payload = payload
        self.deletes = deletes
        self.mono = self.wall = 0
        self.size = HEADER.size + len(form) + len(payload)
        """Bytes that it takes in ``data``."""
        self.waited = False
        """Whether somebody waits to be told that it is stored."""
        self.instead: Write | None = None
        """The one that it replaced, if that was accepted without being stored."""


class Stored(NamedTuple):
    """A write as it was found."""

    place: int
    number: int
    mono: int
    wall: int
    level: int
    flags: int
    codec: int
    deletes: bool
    form: bytes
    payload: bytes
    size: int


class Claimed(NamedTuple):
    """A write under way: what it is, which attempt this is, and what the last one failed of."""

    write: Stored
    attempt: int
    error: str


class Verdict(NamedTuple):
    """What became of an attempt.

    ``again_in`` seconds it is to be tried again, never if None; ``counts`` is whether it was an
    attempt at all. No ``error`` means that the target has it.
    """

    place: int
    number: int
    attempt: int = 0
    error: BaseException | None = None
    again_in: float | None = None
    counts: bool = True
    reason: str = ""


@dataclass(slots=True)
class Tally:
    """How many writes there are, and of how many bytes: by level, and dead."""

    items: list[int]
    sizes: list[int]
    dead: int
    dead_bytes: int

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
        return cls([0] * MOST_LEVELS, [0] * MOST_LEVELS, 0, 0)

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
        return _TALLY.pack(*self.items, *self.sizes, self.dead, self.dead_bytes)


def pack(write: Write, number: int) -> bytes:
    """A write as it is stored."""
    from xxhash import xxh3_64_intdigest

    flags = write.flags | (_DELETES if write.deletes else 0)
    rest = (
        HEADER.pack(
            0,
            number,
            write.mono,
            write.wall,
            write.level,
            flags,
            write.codec,
            len(write.form),
        )[8:]
        + write.form
        + write.payload
    )
    return xxh3_64_intdigest(rest).to_bytes(8, "little") + rest


def unpack(place: bytes, data: bytes) -> Stored:
    """A write as it was stored.

    Raises:
        DecodeError: the bytes are damaged.
    """
    from xxhash import xxh3_64_intdigest

    if len(data) < HEADER.size or xxh3_64_intdigest(data[8:]) != int.from_bytes(data[:8], "little"):
        raise DecodeError(f"the write at place {NUMBER.unpack(place)[0]} is damaged")
    _, number, mono, wall, level, flags, codec, length = HEADER.unpack_from(data)
    end = HEADER.size + length
    return Stored(
        NUMBER.unpack(place)[0],
        number,
        mono,
        wall,
        level,
        flags & ~_DELETES,
        codec,
        bool(flags & _DELETES),
        data[HEADER.size : end],
        data[end:],
        len(data),
    )
