"""What is put, deleted or cleared wins over every load and promotion under way."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import hybridcore as hc

from .conftest import PATIENCE, Gate, Source, stopped_load


class SlowDisk(hc.Lmdb):
    """A disk tier that stops in the middle of its methods when a test has set a gate."""

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.after_fetch = lambda: None
        self.before_clear = lambda: None

    def fetch_plain(self, key):
        record = super().fetch_plain(key)
        self.after_fetch()
        return record

    def fetch_many(self, keys):
        records = super().fetch_many(keys)
        self.after_fetch()
        return records

    def clear(self):
        self.before_clear()
        super().clear()


@pytest.fixture
def disk(tmp_path, clock):
    return SlowDisk(tmp_path / "slow", clock=clock.nanoseconds)


def nothing_left(store, key):
    """Whether no tier holds the key, in any condition."""
    return store.memory.held(key) is None and store._engine.disk.fetch(key) is None


# -- during a load ---------------------------------------------------------------------------


def test_put_during_a_load_wins(drive, make_store):
    """Fault 27: the load's callers get what it brought; the cache keeps what was put."""
    source = Source({"k": "old"})
    store = make_store(source)
    with stopped_load(drive, source, store, "k") as load:
        drive.put(store, "k", "new")
        assert drive.get(store, "k") == "new"
    assert load.result() == "old"
    assert drive.get(store, "k") == "new"
    store.memory.clear()
    assert drive.get(store, "k") == "new"


@pytest.mark.parametrize("wipe", [lambda drive, store: drive.delete(store, "k"),
                                  lambda drive, store: drive.clear(store)],
                         ids=["delete", "clear"])  # fmt: skip
def test_delete_and_clear_during_a_load_win(drive, make_store, wipe):
    """Fault 27: what a load brings after a delete or clear is handed out and not kept."""
    source = Source({"k": "old"})
    store = make_store(source)
    with stopped_load(drive, source, store, "k") as load:
        wipe(drive, store)
    assert load.result() == "old"
    assert nothing_left(store, "k")
    source.values["k"] = "new"
    assert drive.get(store, "k") == "new"


def test_a_load_after_the_delete_is_another(drive, make_store):
    """A get after the delete does not wait for the load from before it, and is kept."""
    source = Source({"k": "old"})
    store = make_store(source)
    with stopped_load(drive, source, store, "k") as load:
        drive.delete(store, "k")
        source.values["k"] = "new"
        assert drive.get(store, "k") == "new"
    assert load.result() == "old"
    assert drive.get(store, "k") == "new"
    assert store._engine.disk.get("k") == "new"


def test_not_found_during_a_put_takes_nothing_away(drive, make_store):
    """Fault 27: a load that ends with "not found" after a put leaves what was put."""
    source = Source()
    store = make_store(source)
    with stopped_load(drive, source, store, "k") as load:
        drive.put(store, "k", "new")
    assert load.result() is None
    assert drive.get(store, "k") == "new"


def test_a_batch_keeps_only_what_nobody_wrote(drive, make_store):
    """Of a batch under way, the keys that were put or deleted are not kept, the others are."""
    source = Source({"a": "old", "b": "old", "c": "old"})
    gate = Gate()
    source.after_load = lambda key: gate() if key == "a" else None
    store = make_store(source)
    batch = drive.start("get_many", store, ["a", "b", "c"])
    gate.wait_until_reached()
    drive.put(store, "a", "new")
    drive.delete(store, "b")
    gate.open()
    assert batch.result(PATIENCE) == {"a": "old", "b": "old", "c": "old"}
    assert drive.get(store, "a") == "new"
    assert nothing_left(store, "b")
    assert store.memory.peek("c") == "old"


# -- during a promotion ----------------------------------------------------------------------


@pytest.mark.parametrize("write", ["put", "delete", "clear"])
def test_a_write_during_a_promotion_wins(make_store, disk, write):
    """Fault 27: what was read from disk before a write does not come back into memory after it."""
    store = make_store(disk=disk)
    store.put("k", "old")
    store.memory.clear()
    gate = disk.after_fetch = Gate()
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(store.get, "k")
        gate.wait_until_reached()
        disk.after_fetch = lambda: None
        {
            "put": lambda: store.put("k", "new"),
            "delete": lambda: store.delete("k"),
            "clear": store.clear,
        }[write]()
        gate.open()
        assert reader.result(PATIENCE) in ({"old", None} if write == "clear" else {"old"})
    assert store.get("k") == ("new" if write == "put" else None)


def test_a_reader_that_comes_during_a_clear(make_store, disk):
    """Fault 27: a lookup between the steps of a clear brings nothing back either."""
    store = make_store(disk=disk)
    store.put("k", "old")
    gate = disk.before_clear = Gate()
    with ThreadPoolExecutor(2) as pool:
        clearing = pool.submit(store.clear)
        gate.wait_until_reached()
        store.memory.discard("k")
        reader = pool.submit(store.get, "k")
        reader_began = threading.Event()
        pool.submit(reader_began.set)
        gate.open()
        clearing.result(PATIENCE)
        reader.result(PATIENCE)
    assert store.get("k") is None


# -- write-through ---------------------------------------------------------------------------


def test_the_origin_comes_first(drive, make_store):
    """While the origin is being written, the tiers still have the old value."""
    source = Source({"k": "old"})
    store = make_store(source, strategy="write_through")
    drive.get(store, "k")
    gate = source.before_store = Gate()
    put = drive.start("put", store, "k", "new")
    gate.wait_until_reached()
    assert drive.get(store, "k") == "old"
    gate.open()
    put.result(PATIENCE)
    assert drive.get(store, "k") == "new"
    assert source.values["k"] == "new"


def test_a_failed_store_changes_nothing(drive, make_store):
    """When the origin refuses a write, the error is the caller's and the tiers are as before."""
    source = Source({"k": "old"})
    store = make_store(source, strategy="write_through")
    drive.get(store, "k")

    def refuse(*ignored):
        raise OSError("read-only today")

    source.before_store = source.delete = refuse
    with pytest.raises(OSError, match="read-only today"):
        drive.put(store, "k", "new")
    with pytest.raises(OSError, match="read-only today"):
        drive.delete(store, "k")
    assert drive.get(store, "k") == "old"
    assert source.asked == ["k"]
    assert store.stats().origin.stores == 0


def test_a_load_from_before_the_store(drive, make_store):
    """Fault 27: a load that read the origin before a write-through does not undo it."""
    source = Source({"k": "old"})
    store = make_store(source, strategy="write_through")
    with stopped_load(drive, source, store, "k") as load:
        drive.put(store, "k", "new")
    assert load.result() == "old"
    assert drive.get(store, "k") == "new"


@pytest.mark.parametrize("last", ["put", "delete"])
def test_overlapping_writes_leave_nothing_doubtful(drive, make_store, last):
    """Fault 27: when writes of a key overlap at the origin, the tiers do not guess who was last."""
    source = Source({"k": "old"})
    store = make_store(source, strategy="write_through")
    drive.get(store, "k")
    gate = Gate()
    source.after_store = lambda key, value: gate() if value == "first" else None
    first = drive.start("put", store, "k", "first")
    gate.wait_until_reached()
    if last == "put":
        drive.put(store, "k", "second")
    else:
        drive.delete(store, "k")
    gate.open()
    first.result(PATIENCE)
    expected = "second" if last == "put" else None
    assert source.values.get("k") == expected
    assert drive.get(store, "k") == expected
    drive.put(store, "k", "alone")
    source.asked.clear()
    assert drive.get(store, "k") == "alone"
    assert source.asked == []


@pytest.mark.parametrize(
    ("bad", "tiers"),
    [([], {}), ([], {"disk": None}), (frozenset(), {})],
    ids=["unhashable", "unhashable, no disk", "unencodable"],
)
def test_bad_keys_never_reach_the_origin(drive, make_store, bad, tiers):
    """Fault 18: a key that a tier cannot take is refused before anything is written."""
    source = Source()
    store = make_store(source, strategy="write_through", **tiers)
    for method, arguments in (("put", (bad, 1)), ("delete", (bad,)), ("get", (bad,))):
        with pytest.raises(TypeError):
            getattr(drive, method)(store, *arguments)
    assert (source.stored, source.deleted, source.asked) == ([], [], [])


# -- values that do not fit ------------------------------------------------------------------


def test_a_value_the_disk_cannot_store(drive, make_store):
    """put refuses it and changes nothing; a load hands it out and keeps it in memory."""
    store = make_store(lambda key: {1, object})
    drive.put(store, "k", "old")
    with pytest.raises(hc.EncodeError):
        drive.put(store, "k", object())
    assert drive.get(store, "k") == "old"
    assert drive.get(store, "l") == {1, object}
    assert drive.get(store, "l") == {1, object}
    assert store.stats().origin.loads == 1


def test_a_loaded_value_the_disk_cannot_store_leaves_no_older_one(drive, make_store, clock):
    """What the disk cannot take replaces what it had: the old value does not come back."""
    source = Source({"k": "old"})
    store = make_store(source, ttl=10, stale=100)
    drive.get(store, "k")
    clock.now += 11
    source.values["k"] = object
    assert drive.get(store, "k") is object
    store.memory.clear()
    source.values["k"] = OSError("down")
    with pytest.raises(OSError, match="down"):
        drive.get(store, "k")


def test_write_through_of_a_value_the_disk_cannot_store(drive, make_store):
    """The origin has taken it: memory keeps it, and the disk keeps nothing older."""
    source = Source({"k": "old"})
    store = make_store(source, strategy="write_through")
    drive.get(store, "k")
    drive.put(store, "k", object)
    assert drive.get(store, "k") is object
    store.memory.clear()
    assert drive.get(store, "k") is object
    assert source.asked == ["k", "k"]


def test_a_value_too_large_for_memory(drive, make_store):
    """It lives on disk alone; the smaller value that memory had is gone."""
    store = make_store(memory=hc.Cache(10, getsizeof=len))
    drive.put(store, "k", "small")
    drive.put(store, "k", "x" * 100)
    assert "k" not in store.memory
    assert drive.get(store, "k") == "x" * 100
    assert drive.get_or_load(store, "l", lambda key: "y" * 100) == "y" * 100
    assert drive.get(store, "l") == "y" * 100


def test_a_value_too_large_for_any_tier(drive, make_store):
    """put says so and changes nothing; a load hands it out every time."""
    source = Source({"l": "y" * 100})
    store = make_store(source, memory=hc.Cache(10, getsizeof=len), disk=None)
    drive.put(store, "k", "small")
    with pytest.raises(hc.ValueTooLargeError):
        drive.put(store, "k", "x" * 100)
    assert drive.get(store, "k") == "small"
    assert drive.get(store, "l") == drive.get(store, "l") == "y" * 100
    assert source.asked == ["l", "l"]


def test_write_through_of_a_value_too_large_for_any_tier(drive, make_store):
    """The origin has it, so the put succeeds, and the older value is not served."""
    source = Source({"k": "small"})
    store = make_store(
        source, memory=hc.Cache(10, getsizeof=len), disk=None, strategy="write_through"
    )
    drive.get(store, "k")
    drive.put(store, "k", "x" * 100)
    assert drive.get(store, "k") == "x" * 100


# -- many at once ----------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["read_through", "write_through"])
@pytest.mark.parametrize("seed", range(3))
def test_one_writer_per_key_reads_what_it_wrote(make_store, fast_switching, strategy, seed):
    """Fault 20: 8 threads, each the only writer of its keys, always read their last write.

    Every thread reads the others' keys too, and memory is so small that promotions never stop.
    """
    source = Source()
    source.load = lambda key, held=None: (
        hc.Loaded(source.values[key]) if key in source.values else hc.NotFound()
    )
    store = make_store(source, memory=hc.Cache(6), strategy=strategy)

    def work(me):
        random_one = random.Random(seed * 100 + me)
        mine = {(me, n): None for n in range(3)}
        others = [(other, n) for other in range(8) for n in range(3)]
        for step in range(400):
            key = random_one.choice(list(mine))
            action = random_one.random()
            if action < 0.25:
                store.put(key, step)
                mine[key] = step
            elif action < 0.4:
                store.delete(key)
                mine[key] = None
            elif action < 0.7:
                assert store.get(key) == mine[key], f"seed {seed}, thread {me}, step {step}"
            elif action < 0.8:
                batch = random_one.sample(others, 5)
                found = store.get_many([*batch, key])
                assert found.get(key) == mine[key], f"seed {seed}, thread {me}, step {step}"
            else:
                store.get(random_one.choice(others))
        for key, value in mine.items():
            assert store.get(key) == value

    with ThreadPoolExecutor(8) as pool:
        for outcome in [pool.submit(work, me) for me in range(8)]:
            outcome.result(60)


def test_clear_in_a_storm_of_promotions(make_store, fast_switching):
    """Fault 20: after a clear nothing from before it is found, however many are reading."""
    store = make_store(memory=hc.Cache(4))
    stop = threading.Event()
    keys = range(12)

    def read():
        while not stop.is_set():
            store.get_many(keys)
            for key in keys:
                store.get(key)

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        try:
            for generation in range(30):
                for key in keys:
                    store.put(key, generation)
                store.clear()
                assert store.get_many(keys) == {}
        finally:
            stop.set()
        for reader in readers:
            reader.result(PATIENCE)
