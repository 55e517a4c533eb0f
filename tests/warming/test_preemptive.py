"""Preemptive warming, and how wishes are weighed and booked."""

from __future__ import annotations

import threading

import pytest

from hybridcore import Cache, ConfigurationError, EntryOptions, HybridCache
from hybridcore.warming import Budget, Heard, Preemptive, Warmer, Wish
from tests.warming.conftest import Batches, Books


def test_refreshes_what_is_asked_for(world) -> None:
    """An entry that readers use is renewed before it expires, and they never miss again."""
    with world.warmer(Preemptive(seed=1)) as warmer:
        for _ in range(400):
            world.store.get("k")
            world.pass_time(warmer, 1)
    assert world.store.memory.stats().misses == 1
    assert 4 <= len(world.origin.asked) <= 6
    book = warmer.stats().strategies["preemptive"]
    assert book.hits >= 3
    assert book.wasted == 0
    assert book.not_modified == book.calls == book.warmed


def test_leaves_what_nobody_asks_for(world) -> None:
    """An entry that was not used since it was loaded expires without a call."""
    with world.warmer() as warmer:
        world.store.get("k")
        world.pass_time(warmer, 300)
    assert world.origin.asked == ["k"]


def test_not_before_the_threshold(world) -> None:
    """Nothing is refreshed before that share of its ttl."""
    with world.warmer(Preemptive(0.9, margin=1000)) as warmer:
        world.store.get("k")
        world.settle(warmer)
        world.store.get("k")
        world.pass_time(warmer, 89)
        assert world.origin.asked == ["k"]
        world.pass_time(warmer, 3)
        assert world.origin.asked == ["k", "k"]


def test_conditional(make_world) -> None:
    """What has not changed is renewed by its validators, and charged as the origin charges."""
    world = make_world()
    with world.warmer() as warmer:
        for _ in range(300):
            world.store.get("k")
            world.pass_time(warmer, 1)
    assert world.origin.usage().quota_used == 1
    assert warmer.stats().strategies["preemptive"].quota < 0.5


def test_batches(make_world) -> None:
    """An origin that takes several keys gets what is due in calls of the batch size."""
    world = make_world(Batches())
    with world.warmer(Preemptive(margin=5), warming_batch_size=20) as warmer:
        for _ in range(2):
            for key in range(50):
                world.store.get(key)
            world.settle(warmer)
        world.pass_time(warmer, 97)
    batches = [asked for asked in world.origin.asked if isinstance(asked, tuple)]
    assert sorted(key for batch in batches for key in batch) == list(range(50))
    assert max(map(len, batches)) == 20
    assert warmer.stats().strategies["preemptive"].calls == len(batches) < 6


def test_random_times() -> None:
    """Two processes that loaded the same keys together do not refresh them together."""
    from tests.warming.conftest import Clock

    times = []
    for seed in (1, 2):
        clock = Clock()
        store = HybridCache(
            Cache(1000, timer=clock), origin=str, defaults=EntryOptions(ttl=1000), breaker=None
        )
        with store, Warmer(store, clock=clock, threaded=False) as warmer:
            strategy = Preemptive(0.5, margin=0, seed=seed)
            strategy.load_seconds = 30.0
            for key in range(200):
                store.get(key)
                strategy.hear(Heard.LOADED, key, clock.now, warmer.shelf)
            times.append({key: at - clock.now for at, _, key in strategy._due})
    apart = [abs(times[0][key] - times[1][key]) for key in range(200)]
    assert sum(gap > 5 for gap in apart) > 100
    assert all(500 <= at <= 1000 for at in times[0].values())


@pytest.mark.parametrize(("crowd", "begins"), [(1, 98), (40, 68), (1_000, 50)])
def test_a_crowd_begins_earlier(world, crowd, begins) -> None:
    """What expires together begins as early as refreshing all of it takes, if the ttl allows."""
    strategy = Preemptive(0.5, margin=0)
    strategy.refresh_seconds = 0.5
    start = world.clock.now
    with world.warmer(strategy) as warmer:
        for key in range(crowd):
            world.store.put(key, key)
            strategy.hear(Heard.LOADED, key, start, warmer.shelf)
            world.store.get(key)
        while not (wishes := list(strategy.wishes(world.clock.now, warmer.shelf))):
            world.clock.now += 1
    assert world.clock.now - start == pytest.approx(begins, abs=2)
    assert len(wishes) == crowd


def test_backs_off(world) -> None:
    """While the origin fails the warmer asks less and less often, and readers keep their copies."""
    keys = range(2_000)
    with world.warmer(Preemptive(0.5, margin=50, ceiling=10)) as warmer:
        for _ in range(2):
            for key in keys:
                world.store.get(key)
            world.settle(warmer)
        world.origin.down = True
        before = len(world.origin.asked)
        world.pass_time(warmer, 90, 0.5)
        asked = len(world.origin.asked) - before
        assert 3 <= asked < 60
        assert warmer.stats().strategies["preemptive"].failed == asked
        assert warmer.stats().backing_off >= 0
        assert world.store.get(0) == 0


def test_a_wish_not_worth_it(world) -> None:
    """A key that is unlikely to be asked for is not loaded, and the reason is told."""
    strategy = Wisher([Wish("k", "wisher", 0.1)])
    with world.warmer(strategy) as warmer:
        world.settle(warmer)
        assert world.origin.asked == []
        assert warmer.stats().strategies["wisher"].declined == 1
        assert warmer.explain() == [(Wish("k", "wisher", 0.1), "not worth its price")]


def test_overhead_bounds_what_is_in_vain(world) -> None:
    """A strategy that errs is stopped when it has lost the share of readers' spending."""
    wishes = [Wish(key, "wisher", 0.9) for key in range(5_000)]
    strategy = Wisher(wishes, each_round=10)
    with world.warmer(strategy, budget=Budget(overhead=0.05, clock=world.clock)) as warmer:
        world.pass_time(warmer, 1_000)
    # 20 units of credit, and what was lost before that was known
    assert len(world.origin.asked) < 200 + 20
    book = warmer.stats().strategies["wisher"]
    assert book.hits == 0
    assert book.declined + book.unaffordable > 4_000


def test_switched_off(world) -> None:
    """The feature "warming" off: nothing is loaded that nobody asked for."""
    with world.warmer() as warmer:
        world.store.features.disable("warming")
        for _ in range(200):
            world.store.get("k")
            world.pass_time(warmer, 1)
        assert world.origin.asked == ["k", "k"]
        assert world.store.refresh_many(["other"]).skipped == ["other"]


def test_a_peer_refreshed_it(make_world) -> None:
    """What another process has renewed on disk is promoted, not loaded again."""
    world = make_world(disk=True)
    with world.warmer(Preemptive(margin=5)) as warmer:
        world.store.get("k")
        world.settle(warmer)
        world.store.get("k")
        world.clock.now += 50
        disk = world.store._engine.disk
        disk.put("k", "newer", ttl=100)
        world.pass_time(warmer, 48)
        assert world.store.get("k") == "newer"
    assert world.origin.asked == ["k"]
    assert warmer.stats().strategies["preemptive"].promoted == 1


def test_a_lease_elsewhere(make_world) -> None:
    """A key that another process is loading is left to it."""
    world = make_world(disk=True)
    other = world.store._engine.disk
    owner, other._owner = other._owner, 7
    other.lease("k", 1e9)
    other._owner = owner
    assert world.store.refresh_many(["k", "other"]).elsewhere == ["k"]
    assert world.origin.asked == ["other"]


def test_single_flight_with_readers(world) -> None:
    """Readers who miss a key that is being warmed wait for that load."""
    begun, go = threading.Event(), threading.Event()
    calls = []

    def load(key: str) -> str:
        calls.append(key)
        begun.set()
        assert go.wait(10)
        return key

    with HybridCache(Cache(10), origin=load, defaults=EntryOptions(ttl=100)) as store:
        thread = threading.Thread(target=store.refresh_many, args=(["k"],))
        thread.start()
        assert begun.wait(10)
        assert store.refresh_many(["k"]).elsewhere == ["k"]
        found = []
        reader = threading.Thread(target=lambda: found.append(store.get("k")))
        reader.start()
        while not any(f.future for f in store._engine._flights._flights.values()):
            pass
        go.set()
        reader.join()
        thread.join()
    assert found == ["k"]
    assert calls == ["k"]


def test_a_delete_wins_over_warming() -> None:
    """A delete while a key is being warmed: what the load brings is not kept."""

    def load(key: str) -> str:
        store.delete(key)
        return key

    with HybridCache(Cache(10), origin=load, defaults=EntryOptions(ttl=100)) as store:
        store.refresh_many(["k"])
        assert store.peek("k") is None


@pytest.mark.parametrize("batched", [False, True])
def test_bounded_concurrency(batched) -> None:
    """However many are due at once, no more than max_concurrent_warms calls run at a time."""
    lock = threading.Lock()
    running = most = 0

    class Counting(Books):
        def _count(self, by: int) -> None:
            nonlocal running, most
            with lock:
                running += by
                most = max(most, running)

        def load(self, key, held=None):
            self._count(1)
            try:
                return super().load(key, held)
            finally:
                self._count(-1)

    class Batched(Counting):
        def load_many(self, keys):
            self._count(1)
            try:
                return Batches.load_many(self, keys)
            finally:
                self._count(-1)

    origin = (Batched if batched else Counting)()
    store = HybridCache(Cache(20_000), origin=origin, defaults=EntryOptions(ttl=1000))
    wishes = [Wish(key, "wisher", 1.0, extra=0.0) for key in range(10_000)]
    strategy = Wisher(wishes, each_round=10_000)
    with store, Warmer(store, strategy, max_concurrent_warms=3, tick=0.01) as warmer:
        while warmer.stats().strategies["wisher"].warmed < 10_000:
            strategy.more.wait(0.01)
        assert len(store.memory) == 10_000
    assert most <= 3


def test_ends_when_the_store_closes(world) -> None:
    """A warmer whose store was closed does nothing, and closes like any other."""
    warmer = world.warmer()
    world.store.close()
    assert warmer.step() == 0
    warmer.close()
    warmer.close()


def test_its_thread_ends() -> None:
    """Closing ends the threads; a warmer that everybody has forgotten ends by itself."""
    store = HybridCache(Cache(10), origin=str)
    with store:
        warmer = Warmer(store, tick=0.01)
        thread = warmer._thread
        del warmer
        thread.join(10)
        assert not thread.is_alive()


def test_stats_of_the_store(world) -> None:
    """The ledger is part of the store's statistics as long as there is a warmer."""
    assert world.store.stats().warming is None
    with world.warmer() as warmer:
        warmer.warm(["k"])
        assert world.store.stats().warming.strategies["manual"].warmed == 1
        assert world.store.stats().warming.budget.calls == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Preemptive(0),
        lambda: Preemptive(1.0),
        lambda: Preemptive(ceiling=0),
        lambda: Preemptive(beta=-1),
        lambda: Budget(calls=-1),
        lambda: Budget(per=0),
    ],
)
def test_options_that_make_no_sense(wrong) -> None:
    """Options out of range are refused."""
    with pytest.raises(ConfigurationError):
        wrong()


@pytest.mark.parametrize(
    "options", [{"max_concurrent_warms": 0}, {"warming_batch_size": 0}, {"max_waiting": 0}]
)
def test_bounds_of_a_warmer(world, options) -> None:
    """Bounds below 1 are refused."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        world.warmer(**options)


def test_names_are_unique(world) -> None:
    """Two strategies of one name could not be told apart in the ledger."""
    with pytest.raises(ConfigurationError, match="name of its own"):
        world.warmer(Preemptive(), Preemptive())


class Wisher:
    """A strategy that has wishes given beforehand."""

    name = "wisher"
    is_on = True

    def __init__(self, wishes, each_round: int = 1) -> None:
        self._wishes = list(wishes)
        self._each = each_round
        self.more = threading.Event()

    def hear(self, what, key, now, shelf) -> None:
        pass

    def wishes(self, now, shelf):
        now, self._wishes = self._wishes[: self._each], self._wishes[self._each :]
        return now

    def next_at(self):
        return None

    def resolved(self, key, is_hit) -> None:
        pass
