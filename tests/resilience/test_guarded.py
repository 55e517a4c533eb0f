"""A guarded origin, on both faces: what is let through, tried again, given up and counted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import subprocess
import sys
import threading
import time

import pytest

import hybridcore as hc
from hybridcore.origins import guarded as module

DOWN = hc.OriginUnavailableError("down")


class Shop:
    """An origin of functions that does what its script says, then answers."""

    def __init__(self, *script: object) -> None:
        self.script = list(script)
        self.asked: list[object] = []
        self.running = self.most = 0
        self.lock = threading.Lock()
        self.opened = threading.Event()

    def load(self, key):
        with self.lock:
            self.asked.append(key)
            step = self.script.pop(0) if self.script else None
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            if step == "hang":
                self.opened.wait(20)
            elif isinstance(step, BaseException):
                raise step
            return f"value of {key}"
        finally:
            with self.lock:
                self.running -= 1


@pytest.fixture
def no_waits(monkeypatch):
    """Waits between tries are noted, not waited."""
    waits: list[float] = []

    async def asleep(length: float) -> None:
        waits.append(length)

    monkeypatch.setattr(module, "_sleep", waits.append)
    monkeypatch.setattr(module, "_asleep", asleep)
    return waits


def guard(**options) -> hc.Guard:
    return hc.Guard(**options, name="shop")


def around(function, guard: hc.Guard, limit=None) -> hc.GuardedOrigin:
    return guard.around(hc.CallableOrigin(function, name="shop"), limit)


def test_a_guard_of_nothing_changes_nothing(face) -> None:
    """Answers and errors come as they are, from all methods."""
    rows = {"a": 1}
    origin = hc.CallableOrigin(rows.__getitem__, store=rows.__setitem__, delete=rows.pop)
    guarded = guard().around(origin)
    assert face.call(guarded, "load", "a") == hc.Loaded(1)
    face.call(guarded, "store", "b", 2)
    face.call(guarded, "delete", "a")
    assert rows == {"b": 2}
    answers = face.call(guarded, "load_many", ["b", "a"])
    assert answers["b"] == hc.Loaded(2)
    assert isinstance(answers["a"], KeyError)
    assert guarded.writable
    assert guarded.name == origin.name
    with pytest.raises(KeyError):
        face.call(guarded, "load", "a")


@pytest.mark.parametrize("method", ["load", "load_many", "store", "delete"])
def test_an_open_breaker_spares_the_origin(face, method) -> None:
    """What is rejected is never asked, whichever method. Fault 24."""
    asked: list[object] = []
    origin = hc.CallableOrigin(asked.append, store=asked.append, delete=asked.append)
    guarded = guard(breaker=hc.Breaker()).around(origin)
    guarded.guard.circuit.trip()
    args = {"load_many": (["k"],), "store": ("k", 1)}.get(method, ("k",))
    with pytest.raises(hc.BreakerOpenError):
        face.call(guarded, method, *args)
    assert not asked
    assert guarded.guard.stats().breaker.rejected == 1


def test_failures_open_it_and_answers_do_not(face) -> None:
    """`NotFound` and refusals are answers; five failures in a row are not."""
    shop = Shop(*[hc.NotFoundError("x"), hc.OriginError("no")] * 4, *[DOWN] * 5)
    guarded = around(shop.load, guard(breaker=hc.Breaker()))
    for _ in range(13):
        with contextlib.suppress(hc.OriginError):
            face.call(guarded, "load", "k")
    assert guarded.guard.circuit.state == "open"
    assert guarded.guard.stats().breaker.failures == 5


def test_a_batch_fails_with_most_of_its_keys(face) -> None:
    """One batch is one call, whatever many of its keys failed."""
    guarded = around(Shop(*[DOWN] * 2).load, guard(breaker=hc.Breaker(failures=1)))
    face.call(guarded, "load_many", list("abcd"))
    assert guarded.guard.circuit.state == "closed"
    guarded = around(Shop(*[DOWN] * 3).load, guard(breaker=hc.Breaker(failures=1)))
    answers = face.call(guarded, "load_many", list("abcd"))
    assert guarded.guard.circuit.state == "open"
    assert sum(isinstance(answer, hc.Loaded) for answer in answers.values()) == 1


def test_a_bulkhead_bounds_what_runs_at_once(face) -> None:
    """Twelve callers, four at a time; nobody is lost."""
    shop = Shop()
    slow = threading.Event()

    def load(key):
        slow.wait(0.002)
        return shop.load(key)

    guarded = around(load, guard(bulkhead=hc.Bulkhead(max_concurrent=4, max_wait="20s")))
    outcomes = face.at_once(guarded, list(range(12)))
    assert all(isinstance(outcome, hc.Loaded) for outcome in outcomes)
    assert shop.most <= 4
    stats = guarded.guard.stats()
    assert (stats.running, stats.waiting, stats.refused) == (0, 0, 0)


def test_who_waited_for_a_place_is_rejected_if_it_opened_meanwhile(wait_until) -> None:
    """The line in front of an origin that went down is not let loose on it."""
    shop = Shop("hang", DOWN)
    guarded = around(
        shop.load,
        guard(
            breaker=hc.Breaker(failures=1), bulkhead=hc.Bulkhead(max_concurrent=1, max_wait="20s")
        ),
    )
    outcomes: list[object] = []

    def load() -> None:
        try:
            outcomes.append(guarded.load("k"))
        except hc.OriginError as error:
            outcomes.append(type(error))

    threads = [threading.Thread(target=load) for _ in range(5)]
    for thread in threads:
        thread.start()
    wait_until(lambda: guarded.guard.stats().waiting == 4)
    shop.opened.set()
    for thread in threads:
        thread.join()
    assert len(shop.asked) == 2
    assert outcomes.count(hc.BreakerOpenError) == 3
    assert guarded.guard.stats().running == 0


def test_a_loader_that_asks_back_uses_the_place_it_has(face) -> None:
    """With one place and one probe, a load may still need another one."""
    circuit_options = hc.Breaker(successes=1, open_for="1ms")
    one = guard(breaker=circuit_options, bulkhead=hc.Bulkhead(max_concurrent=1, max_wait=0))

    def load(key):
        return key if key == 0 else guarded.load(key - 1).value + 1

    guarded = around(load, one)
    one.circuit.trip()
    time.sleep(0.002)
    assert face.call(guarded, "load", 3) == hc.Loaded(3)
    assert one.circuit.state == "closed"
    assert one.stats().running == 0


def test_what_may_pass_is_tried_again(face, no_waits) -> None:
    """Two failures, then the answer; the breaker hears of one success. Fault 21."""
    shop = Shop(DOWN, ConnectionResetError())
    guarded = around(shop.load, guard(breaker=hc.Breaker(failures=1), retry=hc.Retry()))
    assert face.call(guarded, "load", "k") == hc.Loaded("value of k")
    assert len(shop.asked) == 3
    assert guarded.guard.circuit.state == "closed"
    assert guarded.guard.stats().retries == 2
    assert 0 <= no_waits[0] <= 0.1
    assert 0 <= no_waits[1] <= 0.2


def test_the_last_error_is_raised(face, no_waits) -> None:
    """After all attempts the origin's own error comes; other errors are not tried again."""
    guarded = around(Shop(DOWN, DOWN, DOWN).load, guard(retry=hc.Retry()))
    with pytest.raises(hc.OriginUnavailableError, match="down"):
        face.call(guarded, "load", "k")
    shop = Shop(ValueError("bug"))
    with pytest.raises(ValueError, match="bug"):
        face.call(around(shop.load, guarded.guard), "load", "k")
    assert len(shop.asked) == 1


def test_retry_after_is_waited_or_not_tried(face, no_waits) -> None:
    """The origin gets the patience it asks for, within ``max_wait``. Fault 22."""
    shop = Shop(hc.OriginUnavailableError("busy", retry_after=3))
    guarded = around(shop.load, guard(retry=hc.Retry()))
    assert face.call(guarded, "load", "k") == hc.Loaded("value of k")
    assert 3 <= no_waits[0] <= 3.1
    shop.script = [hc.OriginUnavailableError("busy", retry_after=6)]
    with pytest.raises(hc.OriginUnavailableError):
        face.call(guarded, "load", "k")
    shop.script = [hc.OriginUnavailableError("busy", retry_after=3)]
    with pytest.raises(hc.OriginUnavailableError):
        face.call(around(shop.load, guarded.guard, "2s"), "load", "k")
    assert len(no_waits) == 1


def test_a_probe_is_tried_once(face, no_waits) -> None:
    """While half open nothing is tried again."""
    shop = Shop(DOWN)
    guarded = around(
        shop.load, guard(breaker=hc.Breaker(open_for="1ms"), retry=hc.Retry(attempts=5))
    )
    guarded.guard.circuit.trip()
    time.sleep(0.002)
    with pytest.raises(hc.OriginUnavailableError, match="down"):
        face.call(guarded, "load", "k")
    assert len(shop.asked) == 1


def test_a_batch_tries_again_what_failed(face, no_waits) -> None:
    """Only the failed keys are asked for again, and what was found is never lost."""
    failing = {"b": 1, "c": 9}

    def load_one(key):
        asked.append(key)
        if failing.get(key, 0) > 0:
            failing[key] -= 1
            raise DOWN
        return key.upper()

    asked: list[str] = []
    guarded = around(load_one, guard(retry=hc.Retry()))
    answers = face.call(guarded, "load_many", ["a", "b", "c"])
    assert answers["a"] == hc.Loaded("A")
    assert answers["b"] == hc.Loaded("B")
    assert answers["c"] is DOWN
    assert sorted(asked) == ["a", "b", "b", "c", "c", "c"]


def test_writes_are_tried_again_only_if_told(face, no_waits) -> None:
    """A write may have arrived though it failed."""
    for writes, times in ((False, 1), (True, 3)):
        calls: list[object] = []

        def store(key, value, calls=calls):
            calls.append(key)
            raise DOWN

        origin = hc.CallableOrigin(str, store=store)
        guarded = guard(retry=hc.Retry(writes=writes)).around(origin)
        with pytest.raises(hc.OriginUnavailableError):
            face.call(guarded, "store", "k", 1)
        assert len(calls) == times


def test_a_hang_ends_at_the_hard_timeout(face, wait_until) -> None:
    """The caller gets an error in time; the sync call is left behind and heard of. Fault 21."""
    shop = Shop("hang")
    guarded = around(shop.load, guard(breaker=hc.Breaker(), bulkhead=hc.Bulkhead()), "20ms")
    with pytest.raises(hc.OriginTimeoutError, match=r"shop did not answer within 0\.02 seconds"):
        face.call(guarded, "load", "k")
    stats = guarded.guard.stats()
    assert (stats.timeouts, stats.left_behind, stats.running) == (1, 1, 0)
    assert stats.breaker.failures == 1
    shop.opened.set()
    wait_until(lambda: guarded.guard.stats().left_behind == 0)
    assert guarded.guard.stats().breaker.late == 1
    patient = around(shop.load, guarded.guard, "10s")
    assert face.call(patient, "load", "k") == hc.Loaded("value of k")


@pytest.mark.parametrize("stubborn", [False, True])
def test_an_async_hang_is_cancelled(face, wait_until, stubborn) -> None:
    """Also for a blocking caller; one that does not heed its cancellation is not waited for."""
    ended = threading.Event()

    async def load(key):
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            if stubborn:
                await asyncio.sleep(0.05)
                return None
            raise
        finally:
            ended.set()

    guarded = around(load, guard(breaker=hc.Breaker()), "10ms")

    async def main():
        try:
            await guarded.aload("k")
        finally:
            while not ended.is_set():  # a loop that is closed would end nothing
                await asyncio.sleep(0.001)

    started = time.monotonic()
    with pytest.raises(hc.OriginTimeoutError):
        guarded.load("k") if face.kind == "sync" else asyncio.run(main())
    assert time.monotonic() - started < 10
    assert ended.wait(10)
    wait_until(lambda: guarded.guard.stats().left_behind == 0)


def test_a_late_retry_after_is_heeded(wait_until) -> None:
    """What was left behind may still ask for patience."""
    opened = threading.Event()

    def load(key):
        opened.wait(20)
        raise hc.OriginUnavailableError("busy", retry_after=600)

    guarded = around(load, guard(breaker=hc.Breaker(failures=1)), "10ms")
    with pytest.raises(hc.OriginTimeoutError):
        guarded.load("k")
    assert guarded.guard.circuit.retry_after <= 60
    opened.set()
    wait_until(lambda: guarded.guard.circuit.retry_after > 590)


def test_the_hard_timeout_bounds_all_tries_together(face) -> None:
    """A second try that would hang gets only the time that is left, and there is no third."""
    shop = Shop(DOWN, "hang", "hang")
    retry = hc.Retry(wait=0, on=(hc.OriginUnavailableError, hc.OriginTimeoutError))
    guarded = around(shop.load, guard(retry=retry), "200ms")
    with pytest.raises(hc.OriginTimeoutError):
        face.call(guarded, "load", "k")
    assert len(shop.asked) == 2
    shop.opened.set()


def test_a_batch_keeps_what_came_in_time(face) -> None:
    """If the second try of a batch is late, what the first one brought is handed out."""
    shop = Shop()

    class Half(hc.Origin):
        def load_many(self, keys):
            keys = list(keys)
            if len(keys) == 1:
                shop.opened.wait(20)
            return {key: DOWN if key == "b" else hc.Loaded(key) for key in keys}

    guarded = guard(retry=hc.Retry(wait=0)).around(Half(), "200ms")
    answers = face.call(guarded, "load_many", ["a", "b"])
    assert answers["a"] == hc.Loaded("a")
    assert isinstance(answers["b"], hc.OriginError)
    shop.opened.set()


def test_a_cancelled_probe_frees_its_slot() -> None:
    """Also under a storm: cancelled probes never close the way for the one that succeeds."""

    async def load(key):
        await asyncio.sleep(0 if key == "fast" else 20)
        return key

    async def main(limit) -> None:
        now = [0.0]
        breaker = hc.Breaker(successes=1, clock=lambda: now[0])
        options = {"breaker": breaker, "bulkhead": hc.Bulkhead()}
        guarded = around(load, guard(**options), limit)
        guarded.guard.circuit.trip()
        now[0] = 60.0
        for round_ in range(300):
            tasks = [asyncio.create_task(guarded.aload("slow")) for _ in range(5)]
            for _ in range(round_ % 4):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        stats = guarded.guard.stats()
        assert (stats.running, stats.waiting, stats.left_behind) == (0, 0, 0)
        assert guarded.guard.circuit.state == "half_open"
        assert await guarded.aload("fast") == hc.Loaded("fast")
        assert guarded.guard.circuit.state == "closed"
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main(None))
    asyncio.run(main("10s"))


def test_hangs_of_one_origin_leave_the_others_their_threads() -> None:
    """More hangs than there are workers: another guard still has its own."""
    hanging, well = Shop(*["hang"] * 70), Shop()
    guarded = around(hanging.load, guard(), "20ms")

    async def main() -> None:
        loads = (guarded.aload(key) for key in range(70))
        outcomes = await asyncio.gather(*loads, return_exceptions=True)
        assert all(isinstance(one, hc.OriginTimeoutError) for one in outcomes)
        assert await around(well.load, guard(), "10s").aload("k") == hc.Loaded("value of k")
        assert await hc.CallableOrigin(well.load).aload("k") == hc.Loaded("value of k")

    asyncio.run(main())
    hanging.opened.set()


def test_nothing_stays_behind(face, wait_until) -> None:
    """Threads end when they have nothing to do, and guards are let go."""
    before = set(threading.enumerate())
    shop = Shop()
    guarded = around(shop.load, guard(breaker=hc.Breaker(), bulkhead=hc.Bulkhead()), "10s")
    assert set(threading.enumerate()) == before  # none before it is needed
    face.at_once(guarded, list(range(5)))
    wait_until(lambda: set(threading.enumerate()) <= before)
    from weakref import ref

    gone = ref(guarded.guard)
    del guarded
    gc.collect()
    assert gone() is None


def test_a_hybrid_cache_serves_stale_behind_an_open_breaker(face) -> None:
    """To the cache a rejection is a failure of the origin like any other. Fault 24."""
    now = [0.0]
    shop = Shop()
    guarded = around(shop.load, guard(breaker=hc.Breaker()))
    memory = hc.Cache(10, ttl=1, timer=lambda: now[0])
    options = hc.EntryOptions(ttl=1, stale="1h")
    with hc.HybridCache(memory, origin=guarded, defaults=options) as store:
        assert store.get("k") == "value of k"
        guarded.guard.circuit.trip()
        now[0] = 2.0
        got = store.get("k") if face.kind == "sync" else asyncio.run(store.aio.get("k"))
        assert got == "value of k"
        assert store.stats().origin.stale_served == 1
        with pytest.raises(hc.BreakerOpenError):
            store.get("other")
    assert shop.asked == ["k"]


def test_nonsense_is_refused() -> None:
    """Options that make no sense are a ConfigurationError."""
    with pytest.raises(hc.ConfigurationError, match="leaves no time"):
        guard().around(hc.CallableOrigin(str), 0)
    for options in ({"attempts": 1}, {"attempts": 2.5}, {"wait": -1}, {"on": (int,)}):
        with pytest.raises(hc.ConfigurationError):
            hc.Retry(**options)


def test_tenacity_is_asked_for_only_by_retries(monkeypatch) -> None:
    """It is not imported for others; without it the way out is told."""
    code = (
        "import sys, hybridcore as hc; g = hc.Guard(hc.Breaker(), hc.Bulkhead());"
        "g.around(hc.CallableOrigin(str)).load(1);"
        "assert not {'tenacity', 'asyncio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    monkeypatch.setitem(sys.modules, "tenacity", None)
    with pytest.raises(ImportError, match=r"pip install hybridcore\[retry\]"):
        guard(retry=hc.Retry())
