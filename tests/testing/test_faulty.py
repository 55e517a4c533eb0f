"""FaultyOrigin: what was ordered befalls as many as ordered, whoever asks in whatever order."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

import hybridcore as hc
from hybridcore.testing import Fault, FaultyOrigin, SimulatedClock
from hybridcore.types import Loaded


def origin(**functions):
    return hc.CallableOrigin(lambda key: key, **functions)


class Face:
    """Calls methods in one of the two faces."""

    def __init__(self, is_async):
        self.is_async = is_async

    def __call__(self, origin, method, *args):
        if self.is_async:
            return asyncio.run(getattr(origin, f"a{method}")(*args))
        return getattr(origin, method)(*args)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def call(request):
    return Face(request.param)


def outcome(call, faulty, key):
    try:
        return call(faulty, "load", key)
    except Exception as error:
        return type(error)


DOWN = Fault(0.3, raises=lambda key: hc.OriginUnavailableError("down"))
LIES = Fault(0.2, answers=lambda key, answer: Loaded("wrong"))


def test_faults_befall_their_share(call):
    """Errors and wrong answers come about as often as ordered, and the rest is true."""
    faulty = FaultyOrigin(origin(), [DOWN, LIES])
    met = Counter(
        answer if answer in (hc.OriginUnavailableError, Loaded("wrong")) else "true"
        for answer in (outcome(call, faulty, key) for key in range(300))
    )
    assert 60 < met[hc.OriginUnavailableError] < 120
    assert 35 < met[Loaded("wrong")] < 85
    assert faulty.befallen == {DOWN: met[hc.OriginUnavailableError], LIES: met[Loaded("wrong")]}


def test_the_same_seed_is_the_same_course_of_events(call):
    """Threads that ask in any order meet the same; another seed is another course."""
    keys = list(range(200)) * 2

    def course(seed, order):
        faulty = FaultyOrigin(origin(), [DOWN, LIES], seed=seed)
        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(lambda key: str(outcome(call, faulty, key)), order))
        return sorted(zip(order, outcomes, strict=True))

    assert course(1, keys) == course(1, keys[::-1])
    assert course(1, keys) != course(2, keys)


def test_a_schedule_by_a_simulated_clock(call):
    """From each of its times on other faults befall, over and over if told so."""
    clock = SimulatedClock()
    always = Fault(1, raises=lambda key: OSError("down"))
    faulty = FaultyOrigin(origin(), {0: [], "10s": [always], 20: []}, repeat=30, clock=clock)
    met = []
    for _ in range(12):
        met.append(outcome(call, faulty, "key") is OSError)
        clock.now += 5
    assert met == [False, False, True, True, False, False] * 2


def test_waits_advance_a_simulated_clock(call):
    """Latency is drawn for each call, and no time passes but on the clock."""
    clock = SimulatedClock()
    slow = Fault(0.5, waits=10.0)
    faulty = FaultyOrigin(
        origin(), [slow], latency=lambda random: random.uniform(1, 2), clock=clock
    )
    before, started = clock.now, time.monotonic()
    for key in range(20):
        call(faulty, "load", key)
    slept = clock.now - before - 10 * faulty.befallen[slow]
    assert 20 < slept < 40
    assert 0 < faulty.befallen[slow] < 20
    assert time.monotonic() - started < 5


def test_waits_are_slept_otherwise(call):
    """Without a simulated clock a call takes as long as ordered."""
    faulty = FaultyOrigin(origin(), latency=0.02)
    started = time.monotonic()
    call(faulty, "load", 1)
    assert time.monotonic() - started >= 0.02


@pytest.mark.parametrize("ended", ["release", "close"])
def test_a_hang_ends_when_told(call, ended):
    """An endless wait lasts until it is released or the origin is closed."""
    faulty = FaultyOrigin(origin(), [Fault(1, waits=math.inf)])
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(call, faulty, "load", "key")
        while not faulty.befallen:
            time.sleep(0.001)
        assert not pending.done()
        getattr(faulty, ended)()
        assert pending.result(20) == Loaded("key")


def test_a_hang_meets_a_hard_timeout():
    """A cache that waits for so long gives up, and serves what it has."""
    faulty = FaultyOrigin(origin())
    now = [0.0]
    with hc.HybridCache(
        hc.Cache(10, timer=lambda: now[0]),
        origin=faulty,
        defaults=hc.EntryOptions(ttl=1, stale=60, hard_timeout=0.05),
    ) as store:
        assert store.get("key") == "key"
        faulty.faults = [Fault(1, waits=math.inf)]
        now[0] = 5.0
        assert store.get("key") == "key"
        assert store.stats().guard.timeouts == 1


def test_batches(call):
    """Each key of a batch meets its own; the others are asked for at once."""
    asked = []

    def load_many(keys):
        asked.append(keys)
        return {key: key for key in keys}

    faulty = FaultyOrigin(hc.CallableOrigin(load_many=load_many), [DOWN, LIES], seed=3)
    answers = call(faulty, "load_many", range(100))
    failed = {key for key, answer in answers.items() if isinstance(answer, Exception)}
    wrong = {key for key, answer in answers.items() if answer == Loaded("wrong")}
    assert len(failed) == faulty.befallen[DOWN] > 10
    assert len(wrong) == faulty.befallen[LIES] > 5
    assert set(asked[0]) == set(range(100)) - failed
    assert len(asked) == 1


def test_writes(call):
    """Writes meet what is meant for them, and do not reach the origin if they fail."""
    rows = {}
    inner = origin(store=rows.__setitem__, delete=lambda key: rows.pop(key, None))
    no_writes = Fault(1, raises=lambda key: OSError(key), methods=frozenset({"store"}))
    faulty = FaultyOrigin(inner, [no_writes])
    with pytest.raises(OSError, match="a"):
        call(faulty, "store", "a", 1)
    assert call(faulty, "store_many", {"b": 2}) == {}
    assert call(faulty, "load", "b") == Loaded("b")
    call(faulty, "delete", "b")
    assert rows == {}
    faulty.faults = [Fault(0.5, raises=lambda key: OSError(key))]
    errors = call(faulty, "store_many", dict.fromkeys(range(50), 1))
    assert 0 < len(errors) < 50
    assert set(rows) == set(range(50)) - set(errors)
    kept = call(faulty, "delete_many", list(rows))
    assert set(rows) == set(kept)


def test_what_makes_no_sense_is_refused():
    """Shares beyond a whole, and a schedule that does not say how it begins; nothing changes."""
    with pytest.raises(hc.ConfigurationError, match="from 0 to 1"):
        Fault(1.5)
    faulty = FaultyOrigin(origin(), [DOWN])
    with pytest.raises(hc.ConfigurationError, match="more than 1"):
        faulty.faults = [Fault(0.6), Fault(0.6)]
    with pytest.raises(hc.ConfigurationError, match="begin at 0"):
        faulty.faults = {5: [DOWN]}
    assert faulty.faults == [DOWN]


def test_a_simulated_clock_loses_no_time():
    """Threads that sleep at once let all of their time pass."""
    clock = SimulatedClock(0)
    threads = [threading.Thread(target=clock.sleep, args=(1,)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.seconds() == 20
