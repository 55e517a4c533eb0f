"""The write-behind queue in memory: what is written last arrives, in its order, or is told of."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections import defaultdict
from weakref import ref

import pytest

from hybridcore.errors import (
    ClosedError,
    ConfigurationError,
    OriginUnavailableError,
    QueueFullError,
    ReadOnlyOriginError,
)
from hybridcore.origins import CallableOrigin, Origin
from hybridcore.write_queue import MemoryQueue, Operation, in_memory


class Database(Origin):
    """Remembers every write it took; can be held up and made to fail."""

    def __init__(self):
        self.rows = {}
        self.history = []
        self.failures = defaultdict(list)  # by key: errors to raise, the next one first
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def load(self, key, held=None):
        raise AssertionError("nobody loads here")

    def _write(self, key, value):
        self.entered.set()
        assert self.open.wait(20)
        if self.failures[key]:
            raise self.failures[key].pop(0)
        self.history.append((key, value))

    def store(self, key, value):
        self._write(key, value)
        self.rows[key] = value

    def delete(self, key):
        self._write(key, None)
        self.rows.pop(key, None)


class Bulk(Database):
    """Takes several writes at once."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def store_many(self, items):
        self.batches.append(dict(items))
        errors = {}
        for key, value in items.items():
            try:
                self.store(key, value)
            except Exception as error:
                errors[key] = error
        return errors

    def delete_many(self, keys):
        self.batches.append(list(keys))
        for key in keys:
            self.delete(key)


@pytest.fixture
def database():
    return Database()


@pytest.fixture
def make(database):
    """Make queues that retry at once, closed when the test ends."""
    made = []

    def make(origin=database, **options):
        options = {"max_delay": 0, "base_delay": 0.001, "block": 0} | options
        made.append(MemoryQueue(origin, **options))
        return made[-1]

    yield make
    database.open.set()
    for queue in made:
        queue.close(5)


def test_writes_arrive(make, database):
    """Values and deletes reach the origin, and flush waits for them."""
    queue = make()
    queue.put("a", 1)
    queue.put("b", 2)
    assert queue.flush(5)
    queue.delete("a")
    assert queue.flush(5)
    assert database.rows == {"b": 2}
    stats = queue.stats()
    assert (stats.queued, stats.written, stats.waiting, stats.running) == (3, 3, 0, 0)
    assert stats.oldest == 0


def test_reads_see_writes(make, database):
    """Until the origin has it, a write is pending, also while it is being written."""
    queue = make()
    database.open.clear()
    queue.put("a", 1)
    assert database.entered.wait(5)
    assert queue.pending("a") == Operation("a", 1)
    queue.put("a", None)
    queue.delete("b")
    assert queue.pending("a") == Operation("a", None)
    assert queue.pending("b") == Operation("b", deletes=True)
    assert queue.pending("c") is None
    database.open.set()
    assert queue.flush(5)
    assert queue.pending("a") is queue.pending("b") is None


def test_last_write_of_a_key_wins(make, database):
    """What waits is replaced; what is being written is followed by the last one."""
    queue = make()
    database.open.clear()
    queue.put("k", 0)
    assert database.entered.wait(5)
    for n in range(1, 50):
        queue.put("k", n)
    database.open.set()
    assert queue.flush(5)
    assert database.history == [("k", 0), ("k", 49)]
    assert queue.stats().coalesced == 48


def test_order_of_a_key_is_kept_across_retries(make, database):
    """A write that failed is not tried again once a newer one of its key is there."""
    queue = make()
    database.open.clear()
    database.failures["k"] = [OSError("down")]
    queue.put("k", "old")
    assert database.entered.wait(5)
    queue.put("k", "new")
    database.open.set()
    assert queue.flush(5)
    assert database.history == [("k", "new")]


def test_failed_writes_are_tried_again(make, database):
    """Others are written meanwhile; a try may fail several times."""
    queue = make()
    database.failures["bad"] = [OSError("down")] * 3
    queue.put("bad", 1)
    queue.put("good", 2)
    assert queue.flush(5)
    assert database.rows == {"bad": 1, "good": 2}
    assert queue.stats().retries == 3


@pytest.mark.parametrize(
    ("error", "tries"), [(OSError("down"), 3), (ReadOnlyOriginError("no"), 1), (SystemExit(), 3)]
)
def test_hopeless_writes_are_dropped(make, database, error, tries):
    """After the last try, or at once where trying helps nobody, on_drop is told; it may raise."""
    dropped = []

    def on_drop(operation, error):
        dropped.append((operation, error))
        raise ValueError("contained")

    queue = make(retries=2, on_drop=on_drop)
    database.failures["k"] = [error] * 9
    queue.put("k", "secret")
    queue.put("other", 1)
    assert queue.flush(5)
    assert queue.pending("k") is None
    queue.put("more", 1)
    assert queue.flush(5)
    assert database.rows == {"other": 1, "more": 1}
    assert [operation for operation, _ in dropped] == [Operation("k", "secret")]
    assert 9 - len(database.failures["k"]) == tries
    assert queue.stats().dropped == 1


def test_dropped_values_are_not_logged(make, database, caplog):
    """The log has neither key nor value nor the text of the error."""
    queue = make(retries=0)
    database.failures["the-key"] = [OSError("the-secret")]
    queue.put("the-key", "the-value")
    assert queue.flush(5)
    queue.close(5)
    assert "dropped" in caplog.text
    assert "OSError" in caplog.text
    for word in ("the-key", "the-value", "the-secret"):
        assert word not in caplog.text


def test_origin_says_when_to_come_back(make, database):
    """The pause is not shorter than the origin's retry_after, even an endless one."""
    queue = make()
    database.failures["k"] = [OriginUnavailableError("busy", retry_after=float("inf"))]
    queue.put("k", 1)
    queue.put("other", 2)
    while "other" not in database.rows:
        pass
    assert not queue.flush(0.02)
    assert queue.close(5)  # no pause is waited out then
    assert database.rows == {"k": 1, "other": 2}


def test_full_queue_refuses(make, database):
    """No room is an error that changes nothing; a key that waits has its place."""
    queue = make(max_items=2)
    database.open.clear()
    queue.put("a", 1)
    assert database.entered.wait(5)
    queue.put("b", 1)
    with pytest.raises(QueueFullError, match="2 writes wait"):
        queue.put("c", 1)
    queue.put("b", 2)
    assert queue.pending("c") is None
    assert queue.stats().rejected == 1
    database.open.set()
    assert queue.flush(5)
    assert database.rows == {"a": 1, "b": 2}


@pytest.mark.parametrize("face", ["sync", "async"])
def test_full_queue_waits_for_room(make, database, face):
    """With ``block``, a write waits until there is room; asyncio goes on meanwhile."""
    queue = make(max_items=1, block=20)
    database.open.clear()
    queue.put("a", 1)
    assert database.entered.wait(5)
    if face == "sync":
        threading.Timer(0.02, database.open.set).start()
        queue.put("b", 2)
    else:

        async def main():
            asyncio.get_running_loop().call_later(0.02, database.open.set)
            await queue.aput("b", 2)
            await queue.adelete("a")
            assert await queue.aflush(5)

        asyncio.run(main())
    assert queue.flush(5)
    assert database.history[:2] == [("a", 1), ("b", 2)]


def test_batches(make):
    """An origin that takes several writes gets them together, and fails some of them alone."""
    origin = Bulk()
    origin.failures[3] = [OSError("down")]
    queue = make(origin, batch_size=4, max_delay=60)
    for n in range(3):
        queue.put(n, n)
    assert origin.batches == []
    queue.put(3, 3)
    while len(origin.rows) < 3:
        pass
    queue.delete(0)
    assert queue.flush(5)
    assert origin.rows == {1: 1, 2: 2, 3: 3}
    assert origin.batches[0] == {0: 0, 1: 1, 2: 2, 3: 3}
    assert [0] in origin.batches
    assert {3: 3} in origin.batches
    assert queue.stats().batches == 3


def test_batch_that_fails_is_tried_again(make):
    """If the call as a whole raises, each of its writes failed."""
    origin = Bulk()
    whole = origin.store_many
    fails = [OSError("down")]
    origin.store_many = lambda items: (_ for _ in ()).throw(fails.pop()) if fails else whole(items)
    queue = make(origin, max_delay=60)
    queue.put(1, 1)
    queue.put(2, 2)
    assert queue.flush(5)
    assert origin.rows == {1: 1, 2: 2}


def test_async_origins_are_served(make):
    """An origin of async functions is written as well."""
    rows = {}

    async def store(key, value):
        await asyncio.sleep(0)
        rows[key] = value

    async def delete(key):
        del rows[key]

    queue = make(CallableOrigin(rows.get, store=store, delete=delete))
    queue.put("a", 1)
    queue.put("b", 1)
    assert queue.flush(5)
    queue.delete("a")
    assert asyncio.run(queue.aflush(5))
    assert rows == {"b": 1}
    assert asyncio.run(queue.aclose(5))


def test_close_writes_what_waits(make, database):
    """Nothing is lost at close, and nothing taken after it."""
    queue = make(max_delay=60)
    database.failures[7] = [OSError("down")]
    for n in range(300):
        queue.put(n, n)
    assert queue.close(10)
    assert len(database.rows) == 300
    with pytest.raises(ClosedError):
        queue.put("k", 1)
    assert queue.close(5)


def test_close_gives_up_in_time(make, database):
    """What is not written in time is dropped and told of; what is being written may still be."""
    dropped = []
    queue = make(on_drop=lambda operation, error: dropped.append(operation.key), batch_size=1)
    database.open.clear()
    queue.put("running", 1)
    assert database.entered.wait(5)
    queue.put("waiting", 1)
    assert not queue.close(0.01)
    assert dropped == ["waiting"]
    assert queue.pending("waiting") is None
    database.open.set()
    assert queue.flush(5)
    assert database.rows == {"running": 1}


def test_origin_may_write_to_its_own_queue(make, database):
    """A write from within a write does not wait for itself: it is taken, or refused at once."""
    seen = []

    def store(key, value):
        if key == "outer":
            queue.put("inner", 1)
            seen.append(queue.flush(60))
            try:
                queue.put("too many", 1)
            except QueueFullError as error:
                seen.append(type(error))
        database.store(key, value)

    queue = make(CallableOrigin(str, store=store), max_items=2, block=60)
    queue.put("outer", 1)
    assert queue.flush(5)
    assert seen == [False, QueueFullError]
    assert database.rows == {"outer": 1, "inner": 1}


def test_threads(make):
    """Of many writers of few keys, each key ends with a last value, and nothing is lost."""
    origin = Bulk()
    queue = make(origin, batch_size=3, max_items=4, block=60)

    def write(writer):
        for n in range(200):
            queue.put(n % 7, (writer, n))

    threads = [threading.Thread(target=write, args=(w,)) for w in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queue.flush(20)
    last = {n % 7: n for n in range(200)}
    assert {key: value[1] for key, value in origin.rows.items()} == last
    order = defaultdict(list)
    for key, (writer, n) in origin.history:
        order[key, writer].append(n)
    assert all(numbers == sorted(numbers) for numbers in order.values())
    stats = queue.stats()
    assert stats.queued == 1200 == stats.written + stats.coalesced


def test_no_thread_before_it_is_needed_or_after(make, monkeypatch):
    """The thread starts with the first write, ends when idle, and keeps no queue alive."""
    monkeypatch.setattr(in_memory, "LINGER", 0.01)
    queue = MemoryQueue(CallableOrigin(str, store=lambda key, value: None), max_delay=0)
    assert queue._worker is None
    queue.put("k", 1)
    worker = queue._worker
    assert worker.daemon
    worker.join(5)
    assert not worker.is_alive()
    queue.put("k", 2)
    assert queue.flush(5)
    queue._worker.join(5)
    gone = ref(queue)
    del queue
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_fork(make, database):
    """The child starts empty with a thread of its own; the parent writes what it has."""
    queue = make(max_items=2)
    database.open.clear()
    queue.put("a", 1)
    assert database.entered.wait(5)
    queue.put("b", 1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            database.open.set()
            assert queue.pending("b") is None
            queue.put("c", 1)
            assert queue.flush(10)
            assert database.rows == {"c": 1}
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    database.open.set()
    assert queue.flush(5)
    assert database.rows == {"a": 1, "b": 1}


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_exit(kind):
    """What waits when the interpreter exits is written, by async origins as well."""
    program = f"""
from hybridcore.origins import CallableOrigin
from hybridcore.write_queue import MemoryQueue
{kind} store(key, value):
    print(key, value, flush=True)
queue = MemoryQueue(CallableOrigin(str, store=store), max_delay=60)
queue.put("a", 1)
queue.put("b", 2)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.split("\n") == ["a 1", "b 2", ""]
    assert run.stderr == ""


@pytest.mark.parametrize(
    "options",
    [{"max_items": 0}, {"batch_size": 0}, {"retries": -1}, {"max_delay": "soon"}, {"block": -1}],
)
def test_options_that_make_no_sense(options):
    """They are refused by name."""
    with pytest.raises(ConfigurationError):
        MemoryQueue(CallableOrigin(str, store=lambda key, value: None), **options)


def test_origin_must_take_writes():
    """A read-only origin is refused before anything is lost."""
    with pytest.raises(ConfigurationError, match="takes writes"):
        MemoryQueue(CallableOrigin(str))


def test_unhashable_key_is_refused(make):
    """It is an error of the caller, and costs nothing."""
    queue = make()
    with pytest.raises(TypeError):
        queue.put([], 1)
    assert queue.stats().queued == 0
