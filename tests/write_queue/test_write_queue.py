"""The durable queue: what was taken arrives, in its order, or is a dead letter that tells why."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import defaultdict
from pathlib import Path

import pytest

from hybridcore import Codecs, Compression, DiskError, HybridCache, Lmdb, Memory
from hybridcore.errors import (
    BreakerOpenError,
    ClosedError,
    ConfigurationError,
    EncodeError,
    KeyEncodingError,
    OriginUnavailableError,
    QueueFullError,
    ReadOnlyOriginError,
)
from hybridcore.origins import CallableOrigin, Origin
from hybridcore.write_queue import Redelivery, WriteQueue, delivery_of


class Clock:
    """A monotonic clock that is advanced."""

    def __init__(self):
        self.now = 10**12

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += int(seconds * 1e9)


class Target:
    """Takes batches; fails for the keys and as often as it is told."""

    def __init__(self):
        self.rows = {}
        self.history = []
        self.batches = []
        self.failures = defaultdict(list)
        self.open = threading.Event()
        self.open.set()

    def __call__(self, batch):
        assert self.open.wait(20)
        self.batches.append(list(batch))
        errors = {}
        for one in batch:
            if self.failures[one.key]:
                errors[one.key] = self.failures[one.key].pop(0)
                continue
            self.history.append((one.key, one.value))
            if one.deletes:
                self.rows.pop(one.key, None)
            else:
                self.rows[one.key] = one.value
        return errors


@pytest.fixture
def target():
    return Target()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(tmp_path):
    queues = []

    def open_queue(*args, name="q", **options):
        queue = WriteQueue(tmp_path / name, *args, **options)
        queues.append(queue)
        return queue

    yield open_queue
    for queue in queues:
        queue.close(0)


AT_ONCE = Redelivery(wait=0, max_wait=0)


def test_writes_reach_the_target(make, target):
    """Values and deletes of all kinds of keys arrive, and then nothing waits."""
    queue = make(target)
    for key in ("text", b"bytes", 7, ("a", 1), None):
        queue.put(key, {"key": repr(key)})
    queue.delete("text")
    assert queue.flush(20)
    assert target.rows == {key: {"key": repr(key)} for key in (b"bytes", 7, ("a", 1), None)}
    stats = queue.stats()
    assert (stats.depth, stats.dead, stats.queued) == (0, 0, 6)
    assert stats.written + stats.coalesced == 6


def test_what_waits_survives_the_object(make, target):
    """Without a target writes wait on disk, and go out when one is given later, in their order."""
    with make() as queue:
        queue.put("a", 1)
        queue.put("b", 2)
        queue.put_nowait("c", 3)
    assert not target.rows
    queue = make(target)
    assert queue.flush(20)
    assert target.history == [("a", 1), ("b", 2), ("c", 3)]


def test_the_last_write_of_a_key_wins(make, target):
    """One that waits is replaced in its place by the next, whether it was stored already or not."""
    with make() as queue:
        queue.put("k", 1)
        queue.put("other", 0)
        queue.put("k", 2)
        queue.put_nowait("k", 3)
        queue.put_nowait("k", 4)
        queue.sync()
        assert queue.stats().depth == 2
    queue = make(target)
    assert queue.flush(20)
    assert target.history == [("k", 4), ("other", 0)]


def test_without_coalescing_every_write_goes_out(make, target):
    """With coalesce=False the writes of a key come one after the other, none in a batch twice."""
    queue = make(target, coalesce=False)
    target.open.clear()
    for number in range(20):
        queue.put_nowait("k", number)
    assert queue.pending("k").value == 19
    target.open.set()
    assert queue.flush(20)
    assert target.history == [("k", number) for number in range(20)]
    assert all(len({one.key for one in batch}) == len(batch) for batch in target.batches)


def test_a_key_is_not_written_twice_at_a_time(make, target):
    """While a write of a key is under way the next one waits, and is sent afterwards."""
    queue = make(target, workers=3)
    target.open.clear()
    queue.put("k", 1)
    while not queue.stats().running:
        pass
    queue.put("k", 2)
    queue.put("l", 1)
    assert queue.pending("k").value == 2
    target.open.set()
    assert queue.flush(20)
    assert [value for key, value in target.history if key == "k"] == [1, 2]
    assert queue.pending("k") is None


def test_failed_writes_are_tried_again_in_order(make, target):
    """A key that fails keeps its order; the others of its batch are not sent again."""
    target.failures["bad"] = [OSError("down"), OSError("down")]
    queue = make(target, redelivery=AT_ONCE, coalesce=False)
    queue.put_nowait("bad", 1)
    queue.put_nowait("bad", 2)
    queue.put_nowait("good", 1)
    assert queue.flush(20)
    assert [row for row in target.history if row[0] == "bad"] == [("bad", 1), ("bad", 2)]
    assert target.history.count(("good", 1)) == 1
    attempts = [one.attempt for batch in target.batches for one in batch if one.key == "bad"]
    assert attempts == [1, 2, 3, 1]
    assert queue.stats().retries == 2


def test_a_redelivery_carries_the_same_idempotency_key(make, target):
    """Fault 2, 3: the key of a write is the same at every try, and no two writes share one."""
    target.failures["k"] = [OSError(), OSError()]
    queue = make(target, redelivery=AT_ONCE)
    queue.put("k", 1)
    assert queue.flush(20)
    queue.put("k", 2)
    assert queue.flush(20)
    keys = [one.idempotency_key for batch in target.batches for one in batch]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_pauses_grow_and_honour_what_was_asked(make, target, clock):
    """A write that failed waits on the monotonic clock, for longer each time."""
    target.failures["k"] = [OSError(), OSError(), OriginUnavailableError("later", retry_after=100)]
    queue = make(clock=clock, redelivery=Redelivery(wait=10, max_wait=60, jitter="none"))
    queue.put("k", 1)
    for pause in (10, 20, 100):
        (delivery,) = queue.take()
        queue.nack([delivery], target([delivery])["k"])
        clock.advance(pause - 0.01)
        assert queue.take() == []
        clock.advance(0.02)
    (delivery,) = queue.take()
    assert delivery.attempt == 4
    assert queue.ack([delivery]) == 1
    assert queue.stats().depth == 0


@pytest.mark.parametrize("jitter", ["full", "equal", "none"])
def test_jitter(jitter):
    """The pause lies between its bounds, and there is none after the last attempt."""
    redelivery = Redelivery(attempts=5, wait=1, max_wait=4, jitter=jitter)
    least = {"full": 0, "equal": 0.5, "none": 1}[jitter]
    for attempt, bound in ((1, 1), (2, 2), (3, 4), (4, 4)):
        pauses = [redelivery.pause(attempt, OSError()) for _ in range(200)]
        assert all(least * bound <= pause <= bound for pause in pauses)
    assert redelivery.pause(5, OSError()) is None


def test_poison_does_not_block_the_others(make, target):
    """A write that fails for good is a dead letter with its error; all others arrive."""
    target.failures["poison"] = [ValueError("no such column")] * 3
    queue = make(target, redelivery=Redelivery(attempts=3, wait=0, max_wait=0))
    for key in ("a", "poison", "b"):
        queue.put_nowait(key, key.upper())
    assert queue.flush(20)
    assert target.rows == {"a": "A", "b": "B"}
    (letter,) = queue.dead_letters
    assert (letter.key, letter.value, letter.reason) == ("poison", "POISON", "attempts")
    assert (letter.error, letter.message, letter.attempts) == ("ValueError", "no such column", 3)
    assert "ValueError" in letter.traceback
    assert queue.pending("poison") is None


def test_a_permanent_error_is_not_tried_again(make, target):
    """An error of give_up_on, or none of retry_on, lets the write die at once."""
    target.failures |= {"a": [ReadOnlyOriginError("no")], "b": [KeyError("no")]}
    queue = make(target, redelivery=Redelivery(wait=0, retry_on=(OSError, ReadOnlyOriginError)))
    queue.put("a", 1)
    queue.put("b", 1)
    assert queue.flush(20)
    assert [(one.key, one.reason, one.attempts) for one in queue.dead_letters] == [
        ("a", "permanent", 1),
        ("b", "permanent", 1),
    ]


def test_an_open_breaker_burns_no_attempts(make, clock):
    """While a breaker refuses, writes wait as long as it says, however often that happens."""
    queue = make(clock=clock, redelivery=Redelivery(attempts=2))
    queue.put("k", 1)
    for _ in range(5):
        (delivery,) = queue.take()
        assert delivery.attempt == 1
        queue.nack([delivery], BreakerOpenError("open", retry_after=30))
        clock.advance(29)
        assert queue.take() == []
        clock.advance(2)
    assert len(queue.take()) == 1
    assert len(queue.dead_letters) == 0


def test_dead_letters_are_replayed_edited_and_purged(make, target):
    """One, those of a filter, or all go out again, changed if wanted; a purge forgets."""
    for key in "abcd":
        target.failures[key] = [ValueError(key)]
    queue = make(target, redelivery=Redelivery(attempts=1))
    for key in "abcd":
        queue.put(key, 1)
    assert queue.flush(20)
    letters = {letter.key: letter for letter in queue.dead_letters}
    assert sorted(letters) == list("abcd")
    assert queue.dead_letters.replay(letters["a"].id, value=2) == 1
    assert queue.dead_letters.replay(where=lambda letter: letter.message == "b") == 1
    assert queue.flush(20)
    assert target.rows == {"a": 2, "b": 1}
    assert queue.dead_letters.purge(letters["c"].id) == 1
    assert queue.dead_letters.get(letters["c"].id) is None
    assert queue.dead_letters.replay() == 1
    assert queue.flush(20)
    assert target.rows == {"a": 2, "b": 1, "d": 1}
    assert queue.stats().dead == queue.stats().dead_bytes == 0


def test_a_superseded_letter_is_not_replayed(make, target):
    """A letter whose key was written since would undo that write, so it needs force."""
    target.failures["k"] = [ValueError()]
    queue = make(target, redelivery=Redelivery(attempts=1))
    queue.put("k", "old")
    assert queue.flush(20)
    queue.put("k", "new")
    assert queue.flush(20)
    (letter,) = queue.dead_letters
    assert letter.superseded
    assert queue.dead_letters.replay() == 0
    assert queue.dead_letters.replay(force=True) == 1
    assert queue.flush(20)
    assert target.rows == {"k": "old"}


def test_dead_letters_are_bounded_and_told_of(make, target):
    """The oldest go when they take more than max_dead_bytes; on_dead hears of each."""
    told, all_told = [], threading.Event()

    def hear(letter):
        told.append(letter.key)
        if len(told) == 20:
            all_told.set()

    queue = make(target, redelivery=Redelivery(attempts=1), max_dead_bytes=5000, on_dead=hear)
    for number in range(20):
        target.failures[number] = [ValueError()]
        queue.put(number, b"x" * 1000)
        assert queue.flush(20)
    assert all_told.wait(20)
    assert sorted(told) == list(range(20))
    while queue.stats().dead_bytes > 5000:
        pass
    assert max(letter.key for letter in queue.dead_letters) == 19


def test_urgent_goes_first(make, target):
    """The levels go out in their order, whatever came first."""
    with make() as queue:
        for number in range(5):
            queue.put_nowait(f"low{number}", 0, level="low")
            queue.put_nowait(f"normal{number}", 0)
            queue.put_nowait(f"urgent{number}", 0, level="urgent")
    queue = make(target, batch_size=4)
    assert queue.flush(20)
    levels = [key.rstrip("01234") for key, _ in target.history]
    assert levels == ["urgent"] * 5 + ["normal"] * 5 + ["low"] * 5


def test_low_never_starves(make, clock):
    """After `ageing` for each level above it a write goes out, although urgent ones keep coming."""
    queue = make(clock=clock, ageing=60, batch_size=1)
    queue.put("patient", 0, level="low")
    waited, number = 0, 0
    while True:
        queue.put(("urgent", number), 0, level="urgent")
        number += 1
        (delivery,) = queue.take(1)
        queue.ack([delivery])
        if delivery.key == "patient":
            break
        clock.advance(5)
        waited += 5
    assert 60 < waited <= 2 * 60 + 5


def test_a_write_that_waits_becomes_as_urgent_as_its_successor(make, target):
    """An urgent write of a key takes the place, and lifts the level, of a low one that waits."""
    with make() as queue:
        queue.put("k", 1, level="low")
        queue.put("other", 1)
        queue.put("k", 2, level="urgent")
        assert queue.stats().levels["urgent"].items == 1
        assert queue.stats().levels["low"].items == 0
    queue = make(target)
    assert queue.flush(20)
    assert target.history == [("k", 2), ("other", 1)]


def test_the_level_may_follow_from_the_key(make):
    """level_of is asked when put is not told; an unknown level is refused and nothing taken."""
    queue = make(level_of=lambda key: "urgent" if key == "now" else "low")
    queue.put("now", 1)
    queue.put("later", 1)
    with pytest.raises(ConfigurationError, match="urgent, normal, low, got 'soon'"):
        queue.put("k", 1, level="soon")
    levels = queue.stats().levels
    assert [levels[name].items for name in ("urgent", "normal", "low")] == [1, 0, 1]


def test_a_batch_waits_to_fill(make, clock):
    """A level with a delay waits for it, or for a whole batch; urgent writes do not."""
    queue = make(clock=clock, batch_size=3, batch_delay=10)
    queue.put("a", 1)
    assert queue.take() == []
    queue.put("now", 1, level="urgent")
    assert [one.key for one in queue.take(1)] == ["now"]
    clock.advance(11)
    assert [one.key for one in queue.take()] == ["a"]


def test_a_window_lets_writes_replace_each_other(make, clock):
    """Within the window a write is not brought out, and the next one takes its place."""
    queue = make(clock=clock, window=5)
    queue.put("k", 1)
    assert queue.take() == []
    queue.put("k", 2)
    clock.advance(6)
    (delivery,) = queue.take()
    assert delivery.value == 2


def test_leases_end(make, clock):
    """A claim that is not given back in time is taken back; its late ack changes nothing."""
    queue = make(clock=clock, lease=30)
    other = make(clock=clock, lease=30)
    queue.put("k", 1)
    (late,) = queue.take()
    assert other.take() == []
    clock.advance(31)
    other._drain._looked = 0.0
    (again,) = other.take()
    assert (again.attempt, again.idempotency_key) == (2, late.idempotency_key)
    assert queue.ack([late]) == 0
    assert other.ack([again]) == 1


def test_a_write_that_kills_is_not_tried_for_ever(make, clock):
    """Attempts count when they begin: one whose process always dies becomes a dead letter."""
    queue = make(clock=clock, lease=1, redelivery=Redelivery(attempts=2))
    queue.put("k", 1)
    for _ in range(2):
        assert len(queue.take()) == 1
        clock.advance(2)
        queue._drain._looked = 0.0
    assert queue.take() == []
    (letter,) = queue.dead_letters
    assert letter.reason == "crashed"


def test_clock_of_a_new_boot(make, clock, monkeypatch):
    """Delays and leases of before a reboot, when the clock began anew, hold nothing back."""
    queue = make(clock=clock, redelivery=Redelivery(wait=1000, max_wait=1000, jitter="none"))
    queue.put("claimed", 1, level="low")
    queue.put("delayed", 1)
    first = {one.key: one for one in queue.take()}
    queue.nack([first["delayed"]], OSError())
    assert queue.take() == []
    queue.close(0)
    monkeypatch.setattr("hybridcore.write_queue.journal.boot_id", lambda: "x" * 36)
    clock.now = 5
    again = make(clock=clock).take()
    assert [(one.key, one.level) for one in again] == [("delayed", "normal"), ("claimed", "low")]


def test_flow_control_raises(make):
    """A full queue says how full it is, and takes writes again once there is room."""
    queue = make(max_items=2, on_full="raise")
    queue.put("a", 1)
    queue.put("b", 1)
    with pytest.raises(QueueFullError, match=r"2 writes .* max_items=2"):
        queue.put("c", 1)
    assert queue.stats().rejected == 1
    queue.ack(queue.take(1))
    queue.put("c", 1)


def test_only_what_needs_no_waiting_is_accepted(make):
    """What would wait for the disk or for room, or cannot be stored, is refused unchanged."""
    assert not make(name="waits").accept("k", 1)
    queue = make(name="prompt", wait=False, max_items=1)
    assert not queue.accept("k", object())
    assert queue.pending("k") is None
    assert queue.accept("k", 1)
    assert queue.pending("k").value == 1
    assert queue.sync(10)
    assert not queue.accept("other", 2)
    queue.close()
    assert not queue.accept("k", 3)


def test_puts_of_a_key_by_threads_leave_one_value_everywhere(make):
    """Whichever put came last, the origin gets the value that the tiers keep."""
    rows = {}
    queue = make(wait=False, max_items=2, block=20)
    origin = CallableOrigin(rows.get, store=rows.__setitem__)
    with HybridCache(Memory(100), None, origin, strategy="write_behind", queue=queue) as store:

        def put(number):
            for count in range(40):
                store.put(count % 3, (number, count))

        threads = [threading.Thread(target=put, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        kept = {key: store.get(key) for key in range(3)}
        assert store.flush(timeout=20)
        assert rows == kept


def test_flow_control_bounds_bytes(make):
    """max_bytes bounds what waits, those on their way to the disk included."""
    queue = make(max_bytes=10_000, on_full="raise")
    for number in range(9):
        queue.put_nowait(number, b"x" * 1000)
    with pytest.raises(QueueFullError):
        queue.put_nowait(9, b"x" * 1000)
    assert queue.sync()
    assert 8000 < queue.stats().bytes <= 10_000


def test_flow_control_blocks_until_there_is_room(make, target):
    """A producer waits for the target, and its write is taken then."""
    queue = make(target, max_items=1, block=20)
    target.open.clear()
    queue.put("a", 1)
    producer = threading.Thread(target=queue.put, args=("b", 1))
    producer.start()
    assert not target.rows
    target.open.set()
    producer.join(20)
    assert queue.flush(20)
    assert target.rows == {"a": 1, "b": 1}


def test_flow_control_sheds_the_lowest_level(make):
    """The newest writes of the lowest level die, and say so, so that the others have room."""
    queue = make(max_items=2, on_full="shed")
    queue.put("low1", 1, level="low")
    queue.put("low2", 1, level="low")
    queue.put("urgent", 1, level="urgent")
    queue.sync()
    while queue.stats().depth > 2:
        pass
    (letter,) = queue.dead_letters
    assert (letter.key, letter.reason) == ("low2", "shed")
    assert {one.key for one in queue.take()} == {"low1", "urgent"}


def test_flow_control_writes_through(make, target):
    """With write_through the caller brings its write out itself when the queue is full."""
    queue = make(target, max_items=1, on_full="write_through")
    target.open.clear()
    queue.put("a", 1)
    while not queue.stats().running:
        pass
    target.open.set()
    queue.put("b", 2)
    assert queue.flush(20)
    assert target.rows == {"a": 1, "b": 2}


def test_water_marks(make):
    """Crossing the high mark is told once, and so is falling below the low one afterwards."""
    told, both = [], threading.Event()

    def hear(what):
        told.append(what)
        if len(told) == 2:
            both.set()

    queue = make(
        max_items=10,
        high_water=0.8,
        low_water=0.3,
        on_high_water=lambda _: hear("high"),
        on_low_water=lambda _: hear("low"),
    )
    for number in range(9):
        queue.put(number, 1)
    while told != ["high"]:
        pass
    queue.ack(queue.take())
    assert both.wait(20)
    assert told == ["high", "low"]


def test_bad_input_costs_nothing(make):
    """What cannot be stored is refused when it is put, and the queue is as before."""
    queue = make()
    with pytest.raises(EncodeError):
        queue.put("k", object())
    with pytest.raises(KeyEncodingError):
        queue.put(object(), 1)
    assert queue.stats().depth == 0
    for options in (
        {"max_items": 0},
        {"levels": ()},
        {"levels": ("a", "a")},
        {"on_full": "explode"},
        {"high_water": 0.2, "low_water": 0.5},
        {"durability": "none"},
        {"batch_delay": {"never": 1}},
        {"target": 5},
    ):
        with pytest.raises(ConfigurationError):
            make(name="other", **options)


def test_a_target_that_is_refused_leaves_nothing_open(tmp_path):
    """After a refusal no owner is registered, and the directory is not in use."""
    with pytest.raises(ConfigurationError):
        WriteQueue(tmp_path / "q", 5)
    assert not list((tmp_path / "q").glob("owner-*"))


def test_every_write_that_came_is_accounted_for(make):
    """A write that failed, and in whose place a newer one goes, was coalesced with that."""
    queue = make()
    queue.put("k", 1)
    failing = queue.take()
    queue.put("k", 2)
    queue.nack(failing, OSError("not yet"))
    stats = queue.stats()
    assert (stats.queued, stats.depth) == (2, 1)
    assert stats.queued == stats.depth + stats.written + stats.coalesced


def test_a_directory_of_another_kind_is_refused(tmp_path):
    """A cache is not opened as a queue, nor a queue as a cache, open elsewhere or not."""
    with Lmdb(tmp_path / "cache"), pytest.raises(DiskError):
        WriteQueue(tmp_path / "cache")
    with pytest.raises(DiskError, match="somebody else's"):
        WriteQueue(tmp_path / "cache")
    with WriteQueue(tmp_path / "queue"), pytest.raises(DiskError):
        Lmdb(tmp_path / "queue")


def test_damaged_writes_become_dead_letters(make):
    """A flipped bit makes a dead letter of one write; the next one of its key goes out."""
    queue = make(coalesce=False)
    queue.put("k", b"first")
    queue.put("k", b"second")

    def spoil(txn):
        place = (1).to_bytes(8, "big")
        data = bytearray(txn.get(place, db=queue._journal.data))
        data[-1] ^= 1
        txn.put(place, bytes(data), db=queue._journal.data)

    queue._environment.write(spoil, buffers=False)
    (delivery,) = queue.take()
    assert delivery.value == b"second"
    (letter,) = queue.dead_letters
    assert letter.reason == "damaged"
    assert queue.dead_letters.replay() == 0


def test_payloads_are_compressed_where_it_pays(make, target):
    """A large payload is stored small, and arrives whole."""
    queue = make(compression=Compression("zstd"))
    queue.put("k", "again " * 10_000)
    assert queue.stats().bytes < 1000
    assert queue.stats().compression.zstd.kept == 1
    (delivery,) = queue.take()
    assert delivery.value == "again " * 10_000


def test_origins_take_many_at_once_or_one_by_one(make):
    """store_many and delete_many get a batch; without them each write is a call of its own."""

    class Bulk(Origin):
        def __init__(self):
            self.calls = []

        def load(self, key, held=None):
            raise AssertionError

        def store(self, key, value):
            self.calls.append((key, delivery_of(key).idempotency_key))

        def delete(self, key):
            self.calls.append(key)

        def store_many(self, values):
            self.calls.append((dict(values), {delivery_of(key).attempt for key in values}))
            return {}

    with make() as queue:
        queue.put("a", 1)
        queue.put("b", 2)
        queue.delete("c")
    origin = Bulk()
    queue = make(origin)
    assert queue.flush(20)
    assert origin.calls == [({"a": 1, "b": 2}, {1}), "c"]
    assert delivery_of("a") is None
    queue.put("d", 1)
    assert queue.flush(20)
    assert origin.calls[-1][1].endswith("-4")


def test_concurrent_calls_of_an_async_origin(make):
    """With concurrency several writes of a batch are on their way at a time."""
    together, most = [], []

    async def store(key, value):
        together.append(key)
        most.append(len(together))
        await asyncio.sleep(0.05)
        together.remove(key)

    with make() as queue:
        for number in range(8):
            queue.put_nowait(number, number)
    queue = make(CallableOrigin(lambda key: None, store=store), concurrency=4)
    assert queue.flush(20)
    assert 2 <= max(most) <= 4


def test_async_producers_do_not_block_the_loop(make, target):
    """Waiting for the disk and for room leaves the event loop to others."""
    queue = make(target, max_items=1, block=20)

    async def produce():
        target.open.clear()
        await queue.aput("a", 1)
        second = asyncio.ensure_future(queue.aput("b", 2))
        await asyncio.sleep(0.05)
        target.open.set()
        await second
        await queue.adelete("a")
        return await queue.aflush(20)

    assert asyncio.run(produce())
    assert target.rows == {"b": 2}


def test_many_producers_share_commits(make):
    """Sixteen threads that wait for the disk need far fewer commits than they have writes."""
    queue = make()
    threads = [
        threading.Thread(target=lambda n=n: [queue.put((n, i), i) for i in range(20)])
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    stats = queue.stats()
    assert stats.depth == 320
    assert stats.commits < 240


def test_closed(make, target):
    """A closed queue takes nothing, says so, and closes again without harm."""
    queue = make(target)
    assert queue.close()
    with pytest.raises(ClosedError):
        queue.put("k", 1)
    assert queue.close()


def test_close_keeps_what_the_target_does_not_take_in_time(make, target):
    """Fault 14: the deadline is kept, and the rest stays on disk for the next process."""
    target.open.clear()
    queue = make(target)
    queue.put("k", 1)
    assert not queue.close(0.2)
    target.open.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_each_writes_its_own(make, tmp_path):
    """Fault 12: what had gathered is the parent's; the child takes and stores writes of its own."""
    queue = make(gather=1)
    queue.put("before", 0)
    child = os.fork()
    if child == 0:
        try:
            queue.put("child", 1)
            queue.close(0)
        finally:
            os._exit(0)
    queue.put("parent", 1)
    assert os.waitpid(child, 0)[1] == 0
    assert {one.key for one in queue.take()} == {"before", "child", "parent"}


def test_reads_see_writes(make, target, tmp_path):
    """A key with a queued write is answered by it, in this cache and in one of another process."""
    rows, held = {"k": "old"}, threading.Event()

    def keep(key, value):
        assert held.wait(20)
        rows[key] = value

    origin = CallableOrigin(rows.get, store=keep)
    queue = make()
    with HybridCache(
        memory=Memory(10), origin=origin, strategy="write_behind", queue=queue
    ) as store:
        held = threading.Event()
        queue._drain.target.origin.store = lambda key, value: held.wait(20) and rows.update(k=value)
        store.put("k", "new")
        store.memory.clear()
        assert store.get("k") == "new"
        elsewhere = make()  # the same directory, opened by another user of it
        with HybridCache(
            memory=Memory(10), origin=origin, strategy="write_behind", queue=elsewhere
        ) as other:
            assert other.get("k") == "new"
            held.set()
        assert store.flush(20)
    assert rows == {"k": "new"}


def test_codecs_travel(make, target):
    """Values of registered classes come out as they went in."""
    from dataclasses import dataclass

    @dataclass
    class Point:
        x: int

    queue = make(target, codecs=Codecs(Point))
    queue.put("p", Point(3))
    assert queue.flush(20)
    assert target.rows == {"p": Point(3)}


def test_stats_tell_how_long_it_took(make, target, clock):
    """From put until stored, and until the target has it, by the clock of the queue."""
    queue = make(clock=clock, gather=1000)
    queue.put_nowait("k", 1)
    clock.advance(2)
    queue.sync()
    clock.advance(3)
    queue.bind(target)
    assert queue.flush(20)
    stats = queue.stats()
    assert stats.until_durable.quantile(0.5) == pytest.approx(2, rel=0.03)
    assert stats.until_applied.quantile(0.5) == pytest.approx(5, rel=0.03)
    assert (stats.until_durable.count, stats.until_applied.count) == (1, 1)
    assert stats.queued_per_second > 0
    assert stats.written_per_second > 0
    assert stats.success_rate == 1


def test_what_a_replaced_write_waited_counts_once(make, target, clock):
    """The successor is stored at once, and reaches the target as late as the first was put."""
    queue = make(clock=clock)
    queue.put("k", 1)
    clock.advance(60)
    queue.put("k", 2)
    queue.bind(target)
    assert queue.flush(20)
    stats = queue.stats()
    assert stats.until_durable.quantile(1) < 1
    assert stats.until_applied.quantile(1) == pytest.approx(60, rel=0.03)


@pytest.mark.parametrize("backlog", [0, 30])
def test_lanes_that_are_over_are_swept(make, monkeypatch, backlog):
    """What is known of keys whose writes are done does not pile up, nor does it hide others."""
    monkeypatch.setattr("hybridcore.write_queue.journal._LANES_LEFT", 50)
    monkeypatch.setattr("hybridcore.write_queue.journal._SWEEP_AFTER", 20)
    queue = make()

    def lanes(txn):
        return txn.stat(queue._journal.lanes)["entries"]

    for number in range(backlog):
        queue.put_nowait(("waits", number), number, level="low")
    for turn in range(20):
        for number in range(20):
            queue.put_nowait((turn, number), number, level="urgent")
        queue.sync()
        assert queue.ack(queue.take(20)) == 20
    assert queue._environment.write(lanes, buffers=False) <= 2 * backlog + 50 + 40
    for number in range(backlog):
        assert queue.pending(("waits", number)).value == number
    assert queue.pending((0, 0)) is None
    queue.put((0, 0), "again")
    assert queue.pending((0, 0)).value == "again"
    assert queue.stats().depth == backlog + 1


def test_an_origin_that_is_down_for_an_hour(make, clock, monkeypatch):
    """All arrives in order when it is back, whatever the wall clock does; poison alone dies."""
    monkeypatch.setattr("time.time", lambda: 1e9 - clock.now / 1e9)  # it runs backwards
    redelivery = Redelivery(attempts=40, wait=1, max_wait="5m", jitter="none")
    queue = make(clock=clock, coalesce=False, redelivery=redelivery)
    for value in range(3):
        for key in (*range(10), "poison"):
            queue.put_nowait(key, value)
    queue.sync()
    tried, arrived, back = 0, [], clock.now + int(3600e9)
    while queue.stats().depth:
        batch = queue.take()
        tried += len(batch) * (clock.now < back)
        fine = [one for one in batch if clock.now >= back and one.key != "poison"]
        arrived += fine
        queue.ack(fine)
        queue.nack([one for one in batch if one not in fine], OSError("down"))
        clock.advance(20)
    assert 11 * 15 <= tried <= 11 * 25
    assert sorted((one.key, one.value) for one in arrived) == [
        (key, value) for key in range(10) for value in range(3)
    ]
    for key in range(10):
        assert [one.value for one in arrived if one.key == key] == [0, 1, 2]
    letters = list(queue.dead_letters)
    assert [(one.key, one.value, one.attempts) for one in letters] == [
        ("poison", value, 40) for value in range(3)
    ]


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system tells no residents")
def test_pages_of_the_file_are_not_kept_in_memory(make, monkeypatch):
    """What comes and goes leaves few pages of the mapped file resident, and all is read back."""

    def resident():
        told = Path("/proc/self/smaps").read_text().partition(f"{queue.directory}/data.mdb")[2]
        return int(told.partition("Rss:")[2].split()[0])

    monkeypatch.setattr("hybridcore.write_queue.resident.LET_GO_AFTER", 1 << 40)
    queue = make(None, max_bytes="64MiB")
    for number in range(4000):
        queue.put_nowait(number, bytes(1000))
    assert queue.sync(20)
    taken = queue.take(4000)
    assert resident() > 4000
    monkeypatch.setattr("hybridcore.write_queue.resident.LET_GO_AFTER", 1 << 20)
    assert queue.ack(taken[:2000]) == 2000
    assert resident() < 2000
    assert [one.value for one in taken[2000:]] == [bytes(1000)] * 2000
    assert queue.ack(taken[2000:]) == 2000
    assert queue.stats().depth == 0


def test_a_slow_disk_stalls_nobody(make, monkeypatch):
    """Who looks again while a commit takes long is told when it is over, and so are all others."""
    monkeypatch.setattr("hybridcore.write_queue.committer.STEP", 0.01)
    queue = make()
    is_slow, may_go_on = threading.Event(), threading.Event()

    def settle():
        is_slow.set()
        may_go_on.wait(30)

    monkeypatch.setattr(queue._environment, "settle", settle)
    threads = [threading.Thread(target=queue.put, args=(n, n), daemon=True) for n in range(8)]
    threads[0].start()
    assert is_slow.wait(30)
    for thread in threads[1:]:
        thread.start()
    time.sleep(0.1)
    monkeypatch.setattr("hybridcore.write_queue.committer.STEP", 3600.0)
    time.sleep(0.1)
    may_go_on.set()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert queue.stats().depth == 8


def test_a_timeout_passes_the_turn_on(make, monkeypatch):
    """Who gives up waiting for a sync leaves the others to be told."""
    queue = make()
    is_slow, may_go_on = threading.Event(), threading.Event()

    def settle():
        is_slow.set()
        may_go_on.wait(30)

    monkeypatch.setattr(queue._environment, "settle", settle)
    monkeypatch.setattr("hybridcore.write_queue.committer.STEP", 3600.0)
    leading = threading.Thread(target=queue.put, args=("k", 1), daemon=True)
    leading.start()
    assert is_slow.wait(30)
    assert not queue.sync(0.05)
    waiting = threading.Thread(target=queue.put, args=("l", 1), daemon=True)
    waiting.start()
    assert not queue.sync(0.05)
    may_go_on.set()
    for thread in (leading, waiting):
        thread.join(20)
        assert not thread.is_alive()
