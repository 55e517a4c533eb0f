"""A simulated service: a real hybrid cache under a replayed trace, with days, deploys and faults.

Memory, disk, breaker, write queue, invalidation log and statistics are the real ones. Simulated
are the clock, how long the origin takes, its quota, and the memory of the process.
"""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np

from hybridcore import Breaker, Cache, DiskError, EntryOptions, HybridCache, Lmdb, Origin
from hybridcore.origins import Meter
from hybridcore.testing import Fault, FaultyOrigin, SimulatedClock
from hybridcore.types import Loaded
from hybridcore.write_queue import WriteQueue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.traces import Trace
    from hybridcore.stats.snapshot import HybridStats

TICK = 10.0
"""Seconds between two snapshots."""
BEGIN = 1_704_067_200.0
_HOUR = 3600.0
_MIB = 2**20
_VALUE = bytes(100)
_LATENCY = 0.02
_SWING = 0.8
"""By what share traffic is above its mean at the busiest time of day, and below at night."""

KINDS = (
    "origin down",
    "slow origin",
    "scan",
    "disk full",
    "queue stall",
    "coherence lag",
    "memory leak",
    "quota exhaustion",
)


class Backend(Origin[int, bytes]):
    """Answers at once, and counts a quota that is filled every hour."""

    name = "backend"

    def __init__(self, clock: SimulatedClock) -> None:
        self._clock = clock
        self.limit = math.inf
        self.price = 1.0
        self.used = 0.0
        self.used_by_others = 0.0
        self._hour = -1
        self.meter = Meter()

    def load(self, key: int, held: Any = None) -> Loaded[bytes]:
        """A value, for a unit of quota."""
        hour = int(self._clock.now // _HOUR)
        if hour != self._hour:
            self._hour, self.used = hour, self.used_by_others
        if self.used + self.price > self.limit:
            self.meter.quota(0.0, (hour + 1) * _HOUR)
            raise ConnectionError("429: no quota is left")
        self.used += self.price
        self.meter.record(_LATENCY, quota=self.price)
        if self.limit < math.inf:
            self.meter.quota(self.limit - self.used, (hour + 1) * _HOUR)
        return Loaded(_VALUE)

    def usage(self) -> Any:
        """What was spent."""
        return self.meter.usage()


class FullDisk(Lmdb[int, bytes]):
    """A disk tier whose file system may be full."""

    is_full = False

    def put(self, *args: Any, **options: Any) -> None:
        """Fail if it is."""
        if self.is_full:
            raise DiskError("No space left on device")
        super().put(*args, **options)

    def offer(self, *args: Any, **options: Any) -> Any:
        """Fail if it is."""
        if self.is_full:
            raise DiskError("No space left on device")
        return super().offer(*args, **options)


class Service:
    """The service; `tick` replays ten seconds of it and takes a snapshot.

    Args:
        trace: whose keys are asked for, over and over.
        rate: lookups in a second, on average over a day.
    """

    def __init__(self, trace: Trace, seed: int, rate: float) -> None:
        self.random = np.random.default_rng(seed)
        self.clock = SimulatedClock(BEGIN + float(self.random.uniform(0, 86_400)))
        self._work = SimulatedClock()
        self._keys = trace.keys.tolist()
        self._at = int(self.random.integers(0, len(self._keys)))
        self._unique = trace.unique
        self._unseen = trace.unique
        self._rate = rate
        self._home = Path(tempfile.mkdtemp(prefix="hybridcore-detection-"))
        self._latencies: list[float] = []
        self.backend = Backend(self.clock)
        self._hourly: list[float] = []
        self._loaded = 0.0
        self._noise = 0.0
        self.fault: str | None = None
        self._scan = self._leak = self._leaked = 0.0
        self._free = Event()
        self._free.set()
        self._exits = ExitStack()
        for module in ("reads", "loads", "base", "writes", "refreshes"):
            self._patch(f"hybridcore.engine.{module}.perf_counter", self._work.seconds)
        for module in ("base", "statistics"):
            self._patch(f"hybridcore.engine.{module}.monotonic", self.clock.seconds)
        clock = SimpleNamespace(monotonic=self.clock.seconds, time=time.time)
        self._patch("hybridcore.invalidation.coherence.time", clock)
        self._patch("hybridcore.stats.resources.resident_bytes", self._resident)
        self._start()

    def _patch(self, name: str, by: Any) -> None:
        self._exits.enter_context(patch(name, by))

    def _start(self) -> None:
        clock = self.clock
        self._began = clock.now
        self.origin = FaultyOrigin(self.backend, latency=self._latency, clock=self._work)
        self._disk = FullDisk(
            self._home / "disk",
            max_bytes=max(2 * _MIB, self._unique // 2 * 350),
            clock=clock.nanoseconds,
            sweep=None,
        )
        self._queue = WriteQueue(
            self._home / "queue",
            target=self._take,
            workers=1,
            durability="process",
            gather=0,
            clock=lambda: int(clock.now * 1e9),
        )
        self.store: HybridCache[int, bytes] = HybridCache(
            Cache(max(200, self._unique // 20), timer=clock.seconds),
            self._disk,
            self.origin,
            breaker=Breaker(clock=clock.seconds),
            defaults=EntryOptions(ttl="6h"),
            listener=_Deaf(),
        )
        engine = self.store._engine
        engine.queue = self._queue
        assert engine.tiers.disk is not None
        engine.tiers.disk._clock = clock.seconds
        self._other: HybridCache[int, bytes] = HybridCache(
            Cache(10), Lmdb(self._home / "disk", sweep=None)
        )

    def _take(self, batch: Any) -> dict[Any, Exception]:
        self._free.wait()
        return {}

    def _latency(self, random: Any) -> float:
        if not self._latencies:
            drawn = self.random.lognormal(0.0, 0.6, 4096)
            self._latencies = (_LATENCY * drawn).tolist()
        return self._latencies.pop()

    def _resident(self) -> int:
        """What such a process has: its start, what it holds, traffic, and a sawtooth of garbage."""
        age = self.clock.now - self._began
        held = 40 * _MIB * (1 - math.exp(-age / 900))
        self._noise = 0.9 * self._noise + float(self.random.normal(0, 0.3 * _MIB))
        garbage = 3 * _MIB * (self.clock.now % 47) / 47
        traffic = 30 * _MIB * self.traffic
        return int(120 * _MIB + held + self._noise + garbage + traffic + self._leaked)

    @property
    def traffic(self) -> float:
        """Of the mean, at this time of day."""
        return 1 + _SWING * math.sin((self.clock.now / 86_400 - 0.375) * 2 * math.pi)

    def tick(self) -> HybridStats:
        """Replay ten seconds."""
        self.clock.now += TICK
        number = int(self.random.poisson(self._rate * self.traffic * TICK))
        get = self.store.get
        for _ in range(number):
            self._at = (self._at + 1) % len(self._keys)
            with suppress(Exception):
                get(self._keys[self._at])
        for _ in range(int(number * self._scan)):
            self._unseen += 1
            with suppress(Exception):
                get(self._unseen)
        self._leaked += self._leak * TICK / 60
        if int(self.clock.now // TICK) % 2 == 0:
            self._queue.put_nowait(int(self.random.integers(self._unique)), _VALUE)
            with suppress(DiskError):
                self._other.invalidate(int(self.random.integers(self._unique)))
        self._queue.flush(30.0 if self._free.is_set() else 0.05)
        self._limit_quota()
        return self.store.stats()

    def _limit_quota(self) -> None:
        """After an hour of looking on, allow six times what was needed, and twice what would be if
        every lookup missed at the busiest time: without a fault it never runs out."""
        if self.backend.limit == math.inf and self.clock.now - self._began > _HOUR:
            used = self.backend.meter.usage().quota_used
            most = self._rate * (1 + _SWING) * _HOUR
            self.backend.limit = max(2 * most, 6 * used / self.traffic)

    def deploy(self) -> None:
        """Stop the process and start another one, a moment later."""
        self._close()
        self.clock.now += float(self.random.uniform(10, 60))
        self._leaked = 0.0
        self._start()

    def begin(self, kind: str) -> str:
        """Inject a fault; returns what it is in particular."""
        self.fault = kind
        draw = self.random.uniform
        if kind == "origin down":
            share = float(draw(0.5, 1.0))
            self.origin.faults = [Fault(share, raises=_refused)]
            return f"{share:.0%} of the calls fail"
        if kind == "slow origin":
            factor = float(np.exp(draw(np.log(3), np.log(30))))
            self.origin.faults = [Fault(1.0, waits=(factor - 1) * _LATENCY)]
            return f"{factor:.1f} times as slow"
        if kind == "scan":
            self._scan = float(draw(4, 12))
            return f"{self._scan:.1f} times the traffic"
        if kind == "disk full":
            self._disk.is_full = True
        elif kind == "queue stall":
            self._free.clear()
        elif kind == "coherence lag":
            coherence: Any = self.store._engine.coherence
            coherence.log.since = _unreadable
        elif kind == "memory leak":
            self._leak = float(draw(16, 100)) * _MIB
            return f"{self._leak / _MIB:.0f} MiB a minute"
        elif kind == "quota exhaustion":
            if draw() < 0.5:
                others = self.backend.limit * float(draw(0.97, 1.0))
                self.backend.used = self.backend.used_by_others = others
                return "somebody else used it up"
            self.backend.price = float(draw(20, 60))
            return f"{self.backend.price:.0f} times the price"
        return ""

    def end(self) -> None:
        """End the fault."""
        self.fault = None
        self.origin.faults = ()
        self._scan = self._leak = 0.0
        self._leaked = 0.0
        self._disk.is_full = False
        self._free.set()
        coherence: Any = self.store._engine.coherence
        coherence.log.__dict__.pop("since", None)
        self.backend.price = 1.0
        self.backend.used_by_others = 0.0
        self.backend.used = min(self.backend.used, 0.2 * self.backend.limit)

    def _close(self) -> None:
        self._free.set()
        self._other.close()
        self.store.close()

    def close(self) -> None:
        """Stop, and remove what was on disk."""
        self._close()
        self._exits.close()
        shutil.rmtree(self._home, ignore_errors=True)


class _Deaf:
    """A listener; with one no lookup takes the straight way, which has a clock of its own."""

    def looked_up(self, key: Any, tier: Any, duration: float) -> None:
        """Nothing."""


def _refused(key: Any) -> Exception:
    return ConnectionError("connection refused")


def _unreadable(*args: Any) -> Any:
    raise DiskError("the log cannot be read")


@contextmanager
def running(trace: Trace, seed: int, rate: float) -> Iterator[Service]:
    """A service that is stopped in the end."""
    service = Service(trace, seed, rate)
    try:
        yield service
    finally:
        service.close()
