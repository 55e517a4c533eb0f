"""Writes that reach the tiers at once and the origin later."""

from __future__ import annotations

import asyncio
import threading

import pytest

import hybridcore as hc
from tests.hybrid.conftest import Source, wait_until


def test_the_origin_gets_it_later(drive, make_store):
    """A put is there for readers at once; flush waits until the origin has it."""
    source = Source()
    go = threading.Event()
    source.before_store = lambda key, value: go.wait(20)
    store = make_store(source, strategy="write_behind")
    drive.put(store, "k", 1)
    assert drive.get(store, "k") == 1
    assert source.stored == []
    assert not drive.flush(store, 0.01)
    go.set()
    assert drive.flush(store, 20)
    assert source.stored == [("k", 1)]
    assert store.stats().queue.written == 1


def test_reads_see_writes(drive, make_store):
    """What was evicted before the origin has it is answered from the queue, deletes too."""
    source = Source({"k": "old", "gone": "old"})
    go = threading.Event()
    source.before_store = lambda key, value: go.wait(20)
    store = make_store(source, strategy="write_behind")
    drive.put(store, "k", "new")
    drive.delete(store, "gone")
    for tier in (store.memory, store._engine.disk):
        tier.clear()
    assert drive.get_many(store, ["k", "gone"]) == {"k": "new"}
    assert drive.get(store, "gone") is None
    assert source.asked == []
    go.set()
    assert drive.flush(store, 20)
    assert source.deleted == ["gone"]


@pytest.mark.parametrize("deletes", [False, True])
def test_a_load_does_not_bring_back_what_is_older_than_a_queued_write(drive, tmp_path, deletes):
    """While a load is under way another user of the queue writes: the load's answer is older."""
    rows = {"k": "old", "other": "old"}
    elsewhere = hc.WriteQueue(tmp_path / "queue")

    def load(key):
        found = rows[key]
        if key == "k":
            elsewhere.delete(key) if deletes else elsewhere.put(key, "new")
        return found

    with (
        hc.HybridCache(
            hc.Memory(10),
            origin=hc.CallableOrigin(load, store=rows.__setitem__),
            strategy="write_behind",
            queue=hc.WriteQueue(tmp_path / "queue", workers=0),
        ) as store,
        elsewhere,
    ):
        newest = None if deletes else "new"
        assert drive.get(store, "k") == newest
        assert drive.get(store, "k") == newest
        assert elsewhere.ack(elsewhere.take()) == 1
        store.clear()
        wanted = {"other": "old"} | ({} if deletes else {"k": "new"})
        assert drive.get_many(store, ["k", "other"]) == wanted
        assert store.peek("other") == "old"
        assert store.peek("k") is None


def test_a_write_that_is_given_up(make_store):
    """Leaves the tiers: they must not tell what the origin will never have."""
    source = Source()

    def refuse(key, value):
        raise hc.ReadOnlyOriginError("no")

    source.before_store = refuse
    queue = hc.MemoryQueue(source, retries=0, max_delay=0)
    store = make_store(source, strategy="write_behind", queue=queue)
    queue._on_drop = lambda operation, error: store._engine.dropped(operation.key)
    store.put("k", 1)
    wait_until(lambda: store.peek("k") is None)


@pytest.mark.parametrize("face", ["sync", "async"])
def test_closing_writes_what_waits(make_store, face):
    """Nothing that was put is lost by close."""
    source = Source()
    store = make_store(source, strategy="write_behind")
    for number in range(50):
        store.put(number, number)
    if face == "sync":
        store.close()
    else:
        asyncio.run(store.aio.aclose())
    assert dict(source.stored) == {n: n for n in range(50)}
    assert source.closed == 1


def test_a_strategy_of_a_pattern_and_of_a_call(drive, make_store):
    """The call goes before the pattern, and that before the cache."""
    source = Source()
    through = hc.EntryOptions(strategy="write_through")
    store = make_store(source, rules={"safe:{id}": through})
    drive.put(store, "safe:1", 1)
    drive.put(store, "k", 1)
    drive.put(store, "k", 2, options=through)
    assert source.stored == [("safe:1", 1), ("k", 2)]
    drive.delete(store, "k")
    drive.delete(store, "safe:1")
    assert source.deleted == ["safe:1"]
    aside = hc.EntryOptions(strategy="cache_aside")
    source.values["other"] = 1
    assert drive.lookup(store, "other", options=aside) is None
    assert drive.get_many(store, ["other"], options=aside) == {}
    assert drive.lookup(store, "other") == 1


def test_what_cannot_work_is_refused(make_store):
    """Writing behind needs an origin that takes writes, also when only a call wants it."""
    with pytest.raises(hc.ConfigurationError, match=r"write_behind.*needs an origin"):
        make_store(lambda key: key, strategy="write_behind")
    store = make_store(Source())
    with pytest.raises(hc.ConfigurationError, match=r"write_behind.*and a queue"):
        store.put("k", 1, options=hc.EntryOptions(strategy="write_behind"))
    with pytest.raises(hc.ConfigurationError, match="write_sideways"):
        hc.EntryOptions(strategy="write_sideways")
