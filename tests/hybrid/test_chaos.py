"""Everything fails half of the time: what was seen once is served, and nothing leaks."""

import asyncio
import gc
import logging
import os
import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

import hybridcore as hc
from hybridcore.testing import Fault, FaultyOrigin

from .conftest import PATIENCE, FailingDisk, wait_until

KEYS = range(100)
TTL, STALE = 5.0, 600.0
STEP = 0.05
"""Seconds of the simulated clock between two operations."""

HELD_UP = 60.0
"""Seconds that others may let pass while a load stands between its answer and the store."""


CHAOS = (
    Fault(0.4, raises=lambda key: OSError("down")),
    Fault(0.05, answers=lambda key, answer: "no answer"),
    Fault(0.03, raises=lambda key: hc.OriginUnavailableError("overloaded", retry_after=3)),
    Fault(0.01, waits=0.02),  # beyond the hard timeout
    Fault(0.02, waits=0.004),  # beyond the soft timeout
)


class ChaoticDisk(FailingDisk):
    """A disk whose calls fail at random."""

    failing = 0.0
    random = random.Random(1)

    def fails(self):
        return self.random.random() < self.failing


class User:
    """Asks and writes at random by one face; notes what it did not get though it should have."""

    def __init__(self, store, clock, face, seed):
        self.store, self.clock, self.face = store, clock, face
        self.random = random.Random(seed)
        self.newest = dict.fromkeys(KEYS, float("-inf"))
        self.asked = self.unserved = 0

    def run(self, operations):
        loop = asyncio.new_event_loop()
        try:
            for _ in range(operations):
                self.clock.now += STEP
                self.do_something(loop)
            loop.run_until_complete(self.wind_up(loop))
        finally:
            loop.close()

    async def wind_up(self, loop):
        await asyncio.gather(
            *(task for task in self.store.aio._tasks if task.get_loop() is loop),
            return_exceptions=True,
        )

    def do_something(self, loop):
        def call(method, *args):
            if self.face == "sync":
                return getattr(self.store, method)(*args)
            return loop.run_until_complete(getattr(self.store.aio, method)(*args))

        action = self.random.random()
        key = self.random.choice(KEYS)
        asked_at = self.clock.now
        if action < 0.9:
            self.got(asked_at, key, *self.outcome(call, "get", key))
        elif action < 0.95:
            keys = self.random.sample(KEYS, 5)
            found, error = self.outcome(call, "get_many", keys)
            if isinstance(error, hc.PartialLoadError):
                found = error.found
            for each in keys:
                self.got(asked_at, each, (found or {}).get(each), error)
        elif action < 0.97:
            call("contains", key)
        else:
            value = key, self.clock.now
            call("put", key, value)
            self.newest[key] = max(self.newest[key], value[1])

    def outcome(self, call, method, *args):
        try:
            return call(method, *args), None
        except (OSError, hc.OriginError) as error:
            return None, error

    def got(self, asked_at, key, value, error):
        if value is not None:
            assert value[0] == key
            age = asked_at - value[1]
            assert age <= TTL + STALE + HELD_UP, f"a value of {age} seconds"
            self.newest[key] = max(self.newest[key], value[1])
        else:
            assert error is not None
        if self.newest[key] + TTL + STALE - HELD_UP > self.clock.now:
            self.asked += 1
            self.unserved += value is None


def living():
    """What could leak: threads, futures, tasks and descriptors."""
    gc.collect()
    kinds = [type(thing) for thing in gc.get_objects()]
    return {
        "threads": sum(t.name.startswith("hybridcore-sync") for t in threading.enumerate()),
        "futures": sum(issubclass(kind, (Future, asyncio.Future)) for kind in kinds),
        "descriptors": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
    }


@pytest.mark.parametrize("trouble", ["the disk fails", "memory is small"])
@pytest.mark.parametrize(
    ("users", "operations"),
    [
        pytest.param(("sync", "async"), 7_000, id="short"),  # twice, at 20 a second: ten minutes
        pytest.param(("sync", "async") * 2, 50_000, id="long", marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(600)
def test_chaos(tmp_path, clock, caplog, trouble, users, operations):
    """Faults 6, 19, 24: 99.9 % of what was seen is served, right and not too old; nothing leaks."""
    wait_until(lambda: living()["threads"] == 0)
    caplog.set_level(logging.CRITICAL, "hybridcore")  # what is captured keeps errors and frames
    before = living()
    ride_out(tmp_path, clock, trouble, users, operations)
    deadline = time.monotonic() + PATIENCE
    while any(now > before[kind] for kind, now in living().items()):
        assert time.monotonic() < deadline, f"{living()} were {before}"
        time.sleep(0.1)


def ride_out(tmp_path, clock, trouble, users, operations):
    """Let the users use a store while everything fails, and when it is over."""
    source = FaultyOrigin(hc.CallableOrigin(lambda key: hc.Loaded((key, clock.now))), CHAOS, seed=1)
    disk = ChaoticDisk(tmp_path / "chaos", clock=clock.nanoseconds)
    fails = trouble == "the disk fails"
    disk.failing = 0.2 if fails else 0.0
    store = hc.HybridCache(
        hc.Cache(1000 if fails else 20, timer=clock.seconds),
        disk,
        source,
        defaults=hc.EntryOptions(
            ttl=TTL, stale=STALE, refresh_ahead=0.8, soft_timeout=0.002, hard_timeout=0.01
        ),
        breaker=hc.Breaker(clock=clock.seconds),
    )
    store._engine.tiers.disk._clock = clock.seconds
    all_users = [User(store, clock, face, seed) for seed, face in enumerate(users)]
    with ThreadPoolExecutor(len(users)) as pool:
        for done in [pool.submit(user.run, operations) for user in all_users]:
            done.result(580)
    asked = sum(user.asked for user in all_users)
    unserved = sum(user.unserved for user in all_users)
    assert asked > 0.8 * operations * len(users)
    assert unserved <= 0.001 * asked
    stats = store.stats()
    assert stats.origin.errors
    assert stats.origin.stale_served
    assert stats.origin.soft_timeouts
    assert stats.guard.timeouts
    assert stats.guard.breaker.opened
    assert bool(stats.origin.disk_errors) is fails

    wait_until(lambda: store.stats().guard.left_behind == 0 and not store._engine._flights._flights)
    assert not store.aio._tasks
    source.faults, disk.failing = (), 0.0
    clock.now += 3600
    store.breaker.reset()
    assert store.get_many(KEYS) == {key: (key, clock.now) for key in KEYS}
    assert store.health()["disk"].state == "ok"
    assert store.health()["disk"].missed == 0
    store.memory.check()
    store.close()
