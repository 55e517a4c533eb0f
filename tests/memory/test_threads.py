"""Threads: no lost or foreign values, bounds kept, counters that add up (Fault 20)."""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from hybridcore import Cache
from hybridcore.errors import ValueTooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREADS = 8
SECONDS = 0.6


@pytest.fixture(autouse=True)
def restless() -> Iterator[None]:
    """The interpreter changes threads as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*workers: Callable[[Callable[[], bool]], None]) -> None:
    """Run the workers in threads of their own, each until its argument says stop."""
    errors: list[BaseException] = []
    end = time.monotonic() + SECONDS

    def going() -> bool:
        return not errors and time.monotonic() < end

    def guarded(worker: Callable[[Callable[[], bool]], None]) -> None:
        try:
            worker(going)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


class SlowKey:
    """A key whose comparison gives other threads a chance."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        return self.number & 3

    def __eq__(self, other: object) -> bool:
        same = 0
        for _ in range(3):
            same += isinstance(other, SlowKey) and self.number == other.number
        return same == 3


@pytest.mark.parametrize("as_key", [int, str, SlowKey, lambda n: (n, "tuple")])
def test_one_writer_per_key(as_key: Callable[[int], Any]) -> None:
    """Fault 20: what a thread wrote last under its own key is there, or nothing is."""
    heard = []
    cache: Cache[Any, tuple[int, int]] = Cache(
        40, on_evict=lambda key, value, cause: heard.append(cause)
    )

    def writer(own: int) -> Callable[[Callable[[], bool]], None]:
        def work(going: Callable[[], bool]) -> None:
            dice = random.Random(own)
            written: dict[int, int] = {}
            count = 0
            while going():
                number = dice.randrange(12) * THREADS + own
                count += 1
                match dice.randrange(4):
                    case 0:
                        cache[as_key(number)] = (own, count)
                        written[number] = count
                    case 1:
                        found = cache.pop(as_key(number), None)
                        assert found in (None, (own, written.get(number)))
                        written.pop(number, None)
                    case _:
                        found = cache.get(as_key(number))
                        assert found in (None, (own, written.get(number)))
                foreign = cache.get(as_key(dice.randrange(12 * THREADS)))
                assert foreign is None or 0 <= foreign[0] < THREADS

        return work

    together(*(writer(own) for own in range(THREADS)))
    cache.check()
    stats = cache.stats()
    assert len(cache) <= 40
    assert stats.insertions - stats.evicted - stats.removed == len(cache)
    assert len(heard) == stats.evicted + stats.removed + stats.replaced


def test_everything_at_once() -> None:
    """Fault 20: reading, writing, resizing, clearing, expiring, copying and iterating together."""
    drift = [0.0]

    def timer() -> float:
        return time.monotonic() + drift[0]

    cache: Cache[Any, Any] = Cache(
        500,
        getsizeof=lambda value: value % 5,
        ttl=0.05,
        timer=timer,
        on_evict=lambda *removal: None,
    )

    def user(seed: int) -> Callable[[Callable[[], bool]], None]:
        def work(going: Callable[[], bool]) -> None:
            dice = random.Random(seed)
            while going():
                key = dice.randrange(300)
                cache[key] = key
                cache.put(key + 1, key, ttl=dice.choice([0, 0.001, 1, 1e6]), size=dice.randrange(9))
                cache.get(key)
                cache.get_many(range(key, key + 5))
                cache.touch(key, dice.random())
                cache.pop(key + 2, None)
                cache.setdefault(key + 3, key)

        return work

    def manager(going: Callable[[], bool]) -> None:
        dice = random.Random(99)
        while going():
            cache.resize(dice.choice([10, 100, 500, None]))
            for _ in range(10):
                cache.expire()
                drift[0] += dice.choice([0.01, -0.01, 3, -3])
            if dice.random() < 0.1:
                cache.clear()
            cache.coldest(10)
            cache.stats()
            cache.check()
            with suppress(RuntimeError):  # changed by another thread meanwhile
                cache.copy().check()
                list(cache.items())

    def tolerant(going: Callable[[], bool]) -> None:
        try:
            user(7)(going)
        except ValueTooLargeError:
            tolerant(going)

    together(*(user(seed) for seed in range(THREADS - 2)), manager, tolerant)
    cache.check()


def test_popitem_gives_each_entry_to_one_thread() -> None:
    """Every entry is popped exactly once."""
    cache: Cache[int, int] = Cache(None)
    cache.update((i, i) for i in range(20_000))
    taken: list[list[int]] = []

    def work(going: Callable[[], bool]) -> None:
        mine = []
        taken.append(mine)
        while True:
            try:
                mine.append(cache.popitem()[0])
            except KeyError:
                return

    together(*[work] * THREADS)
    assert sorted(key for mine in taken for key in mine) == list(range(20_000))


def test_setdefault_gives_all_threads_one_value() -> None:
    """With keys that need no Python to compare, the first setdefault wins for everybody."""
    cache: Cache[int, object] = Cache(None)
    seen: list[dict[int, object]] = []

    def work(going: Callable[[], bool]) -> None:
        mine: dict[int, object] = {}
        seen.append(mine)
        for key in range(2000):
            mine[key] = cache.setdefault(key, object())

    together(*[work] * THREADS)
    for key in range(2000):
        assert {id(mine[key]) for mine in seen} == {id(cache[key])}


def test_the_collector_in_listeners() -> None:
    """Fault 20: gc.collect() inside a listener while other threads use the cache."""
    calls = [0]

    def listener(*removal: Any) -> None:
        calls[0] += 1
        if calls[0] % 500 == 0:
            gc.collect(0)

    cache: Cache[int, Any] = Cache(50, on_evict=listener)

    def work(going: Callable[[], bool]) -> None:
        dice = random.Random(threading.get_ident())
        while going():
            key = dice.randrange(200)
            cache[key] = [cache, key]
            found = cache.get(dice.randrange(200))
            assert found is None or found[0] is cache

    together(*[work] * THREADS)
    cache.check()
    assert calls[0] >= 500
    cache.clear()
