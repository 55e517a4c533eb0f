"""Stores on a clock of their own, and an origin that keeps books."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from hybridcore import (
    Cache,
    EntryOptions,
    HybridCache,
    Lmdb,
    Loaded,
    NotModified,
    Origin,
    Validators,
)
from hybridcore.origins import Meter
from hybridcore.warming import Warmer


class Clock:
    """Seconds since the epoch that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_704_067_200.0  # a Monday, at midnight UTC

    def __call__(self) -> float:
        return self.now

    def in_nanoseconds(self) -> int:
        return int(self.now * 1e9)


@dataclass
class Books(Origin[Any, Any]):
    """Answers the key itself, with an etag, and notes what it was asked."""

    name = "books"
    asked: list[Any] = field(default_factory=list)
    changed: set[Any] = field(default_factory=set)
    down: bool = False
    meter: Meter = field(default_factory=Meter)

    def load(self, key: Any, held: Validators | None = None) -> Loaded[Any] | NotModified:
        self.asked.append(key)
        if self.down:
            raise ConnectionError("down")
        if held is not None and key not in self.changed:
            self.meter.record(0.01, not_modified=1)
            return NotModified()
        self.meter.record(0.01, quota=1, bytes_in=100)
        return Loaded(key, None, Validators(etag="1"))

    def usage(self) -> Any:
        return self.meter.usage()


class Batches(Books):
    """The same, several keys in a call."""

    def load_many(self, keys: Any) -> dict[Any, Any]:
        self.asked.append(tuple(keys))
        return {key: Loaded(key) for key in keys}


@dataclass
class World:
    """A store, what it loads from, and its time."""

    store: HybridCache[Any, Any]
    origin: Books
    clock: Clock

    def warmer(self, *strategies: Any, **options: Any) -> Warmer:
        """One that works when told to."""
        return Warmer(self.store, *strategies, clock=self.clock, threaded=False, **options)

    def pass_time(self, warmer: Warmer, seconds: float, step: float = 1.0) -> None:
        """Let time pass, with rounds of the warmer."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + step)
            self.settle(warmer)

    def settle(self, warmer: Warmer) -> None:
        """One round, after all news has arrived."""
        self.store._engine.events.drain()
        warmer.step()


@pytest.fixture
def make_world(tmp_path):
    """Makes worlds; with ``disk=True`` they have a directory."""
    made = []

    def make(origin: Books | None = None, *, size: int = 1_000, disk: bool = False, **options: Any):
        clock = Clock()
        origin = origin if origin is not None else Books()
        below = None
        if disk:
            below = Lmdb(tmp_path / "disk", max_bytes="64MiB", clock=clock.in_nanoseconds)
        store = HybridCache(
            Cache(size, timer=clock),
            below,
            origin,
            defaults=EntryOptions(**{"ttl": 100, **options}),
            breaker=None,
        )
        made.append(store)
        return World(store, origin, clock)

    yield make
    for store in made:
        store.close()


@pytest.fixture
def world(make_world) -> World:
    """Memory alone, a ttl of 100 s."""
    return make_world()
