"""Slow, obvious models of the orders of eviction that `Weights` describe."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from hybridcore import Weights

OCTAVE = 16  # grades in which a score doubles
LOWEST, HIGHEST = -511, 512  # grades there are below and above the clock
FARTHEST = 448  # grades that a value, or a frequency, may add


class Recency:
    """Least recently used first."""

    def __init__(self) -> None:
        self.keys: list[Hashable] = []

    def add(self, key: Any) -> None:
        self.keys.append(key)

    def remove(self, key: Any) -> None:
        self.keys.remove(key)

    def touch(self, key: Any) -> None:
        self.remove(key)
        self.add(key)

    def value(self, key: Any, size: int, cost: float, importance: float) -> None:
        """Nothing counts but the last use."""

    def evicted(self, count: int) -> None:
        """Nor does this."""

    def coldest(self) -> list[Any]:
        return self.keys

    def victim(self, spared: list[Any]) -> Any:
        """The key to evict next; StopIteration when there is none."""
        return next(key for key in self.coldest() if key not in spared)

    def copied(self) -> Recency:
        """The order of a copy of the cache."""
        return self


@dataclass
class Seat:
    """Where a key stands; ``octave`` is that of the clock at its last use."""

    frequency: int = 1
    offset: int = 0
    octave: int = 0
    grade: int = 0


class Grades(Recency):
    """Lowest score first, in grades of a sixteenth of an octave; within a grade the oldest.

    A grade is the logarithm of the score plus the clock at the last use. Its range moves with the
    clock; keys that would fall out of it are the coldest of the lowest grade.
    """

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.clock = 1024
        self.due = 0.0
        self.seats: dict[Any, Seat] = {}
        self.lists: dict[int, list[Any]] = {}

    def place(self, key: Any) -> None:
        seat = self.seats[key]
        level = OCTAVE * self.weights.frequency * math.log2(seat.frequency)
        above = int(min(level + 0.5, FARTHEST)) + seat.offset
        seat.grade = self.clock + max(min(above, HIGHEST), LOWEST)
        seat.octave = self.clock // OCTAVE
        self.lists.setdefault(seat.grade, []).append(key)

    def unplace(self, key: Any) -> None:
        self.lists[self.seats[key].grade].remove(key)

    def add(self, key: Any) -> None:
        self.seats[key] = Seat()
        self.place(key)

    def remove(self, key: Any) -> None:
        self.unplace(key)
        del self.seats[key]

    def touch(self, key: Any) -> None:
        seat = self.seats[key]
        halvings = self.clock // OCTAVE - seat.octave
        seat.frequency = min((seat.frequency >> halvings) + 1, 255)
        self.unplace(key)
        self.place(key)

    def value(self, key: Any, size: int, cost: float, importance: float) -> None:
        weights, seat = self.weights, self.seats[key]
        value = power(max(size, 1), -weights.size)
        value *= min(power(cost, weights.cost), 1e30)
        value *= min(power(importance, weights.importance), 1e30)
        grades = OCTAVE * math.log2(single(max(min(value, 1e30), 1e-30)))
        offset = math.floor(max(min(grades, FARTHEST), -FARTHEST) + 0.5)
        if offset != seat.offset:
            seat.offset = offset
            self.unplace(key)
            self.place(key)

    def evicted(self, count: int) -> None:
        """The clock moves 16 grades in a turnover, times the weight of recency, or 1.6."""
        self.due += OCTAVE * (self.weights.recency or 0.1) / count
        steps = min(int(self.due), 64)
        self.due = min(self.due - steps, 1.0)
        for _ in range(steps):
            self.clock += 1
            lowest = self.clock + LOWEST
            merged = self.lists.pop(lowest - 1, []) + self.lists.get(lowest, [])
            self.lists[lowest] = merged
            for key in merged:
                self.seats[key].grade = lowest

    def coldest(self) -> list[Any]:
        return [key for grade in sorted(self.lists) for key in self.lists[grade]]

    def copied(self) -> Grades:
        """All stand as they did, in relation to the clock, which starts anew."""
        order = Grades(self.weights)
        for grade in sorted(self.lists):
            for key in self.lists[grade]:
                seat = self.seats[key]
                octave = (order.clock // OCTAVE) - (self.clock // OCTAVE - seat.octave)
                moved = grade - self.clock + order.clock
                order.seats[key] = Seat(seat.frequency, seat.offset, octave, moved)
                order.lists.setdefault(moved, []).append(key)
        return order


class Told(Recency):
    """What a cache that learns evicts, as it was heard: the model has no opinion of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.victims: list[Any] = []

    def victim(self, spared: list[Any]) -> Any:
        return self.victims.pop(0)


def single(value: float) -> float:
    """As a C float."""
    return struct.unpack("f", struct.pack("f", value))[0]


def power(base: float, exponent: float) -> float:
    """As the pow of C, for a base of at least 0."""
    try:
        return base**exponent
    except OverflowError:
        return math.inf
