"""get_many: one batch per tier, and only what is missing goes down."""

import pytest

import hybridcore as hc

from .conftest import PATIENCE, Gate, Source, stopped_load, wait_until


class SpiedDisk(hc.Lmdb):
    """A disk tier that notes the batches it is asked for."""

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        self.batches = []

    def fetch_many(self, keys):
        self.batches.append(list(keys))
        return super().fetch_many(keys)


@pytest.fixture
def disk(tmp_path, clock):
    return SpiedDisk(tmp_path / "spied", clock=clock.nanoseconds)


def test_only_missing_keys_go_down(drive, make_store, disk):
    """Memory, disk and origin get one batch each, with the keys that nobody above has."""
    source = Source({n: n * n for n in range(6)})
    store = make_store(source, disk=disk)
    drive.get_many(store, [0, 1, 2, 3])
    for key in (2, 3):
        store.memory.discard(key)
    disk.batches.clear()
    source.batches.clear()
    assert drive.get_many(store, [5, 3, 1, 4, 2, 0, 9]) == {n: n * n for n in range(6)}
    assert disk.batches == [[5, 3, 4, 2, 9]]
    assert source.batches == [[5, 4, 9]]
    disk.batches.clear()
    source.batches.clear()
    assert drive.get_many(store, range(6)) == {n: n * n for n in range(6)}
    assert (disk.batches, source.batches) == ([], [])


def test_answers_in_the_order_asked(drive, make_store):
    """The result has the order of the keys, whichever tier they came from."""
    store = make_store(Source({"a": 1, "b": 2, "c": 3}))
    drive.get(store, "b")
    assert list(drive.get_many(store, ["c", "b", "a"])) == ["c", "b", "a"]


def test_duplicates_count_once(drive, make_store):
    """A key named twice is asked for once."""
    source = Source({"a": 1})
    store = make_store(source)
    assert drive.get_many(store, iter(["a", "a", "b", "a"])) == {"a": 1}
    assert source.batches == [["a", "b"]]
    assert source.asked == ["a", "b"]
    assert store.stats().memory.requests == 2


def test_no_keys(drive, make_store):
    """Nothing asked, nothing done."""
    source = Source()
    store = make_store(source)
    assert drive.get_many(store, []) == {}
    assert source.batches == []


def test_a_batch_of_the_origin_is_one_call(drive, make_store):
    """An origin with load_many is called once; what its mapping lacks does not exist."""
    calls = []

    def load_many(keys):
        calls.append(keys)
        return {key: key.upper() for key in keys if key != "z"}

    origin = hc.CallableOrigin(lambda key: 0, load_many=drive.function(load_many))
    store = make_store(origin)
    assert drive.get_many(store, ["x", "y", "z"]) == {"x": "X", "y": "Y"}
    assert calls == [["x", "y", "z"]]
    assert store.stats().origin.not_found == 1


def test_partial_failure(drive, make_store):
    """Keys that fail do not take the others with them: found and errors have everything."""
    source = Source({"a": 1, "b": ValueError("b"), "c": 3, "d": OSError("d")})
    store = make_store(source)
    with pytest.raises(hc.PartialLoadError, match="2 of 4 keys") as caught:
        drive.get_many(store, ["a", "b", "c", "d", "none"])
    assert caught.value.found == {"a": 1, "c": 3}
    assert set(caught.value.errors) == {"b", "d"}
    assert caught.value.errors["b"] is source.values["b"]
    assert store.stats().origin.errors == 2
    source.values |= {"b": 2, "d": 4}
    assert drive.get_many(store, ["a", "b", "c", "d"]) == {"a": 1, "b": 2, "c": 3, "d": 4}
    assert source.batches[-1] == ["b", "d"]


def test_the_whole_batch_fails(drive, make_store):
    """When load_many itself fails, every missing key has that error."""

    def load_many(keys):
        raise OSError("down")

    origin = hc.CallableOrigin(lambda key: 0, load_many=load_many)
    store = make_store(origin)
    drive.put(store, "held", 1)
    with pytest.raises(hc.PartialLoadError) as caught:
        drive.get_many(store, ["a", "held", "b"])
    assert caught.value.found == {"held": 1}
    assert [str(error) for error in caught.value.errors.values()] == ["down", "down"]


@pytest.mark.parametrize("nonsense", [hc.NotModified(), "not an answer", None])
def test_a_nonsensical_answer_ends_its_load(drive, make_store, nonsense):
    """An answer that makes no sense is that key's error, and the key can be asked for again."""

    class Confused(hc.Origin):
        sane = False

        def load(self, key, held=None):
            return hc.Loaded(key)

        def load_many(self, keys):
            return {key: nonsense if key == "bad" else hc.Loaded(key) for key in keys}

    store = make_store(Confused())
    with pytest.raises(hc.PartialLoadError) as caught:
        drive.get_many(store, ["a", "bad", "b"])
    assert caught.value.found == {"a": "a", "b": "b"}
    assert isinstance(caught.value.errors["bad"], hc.OriginError)
    assert drive.start("get", store, "bad").result(PATIENCE) == "bad"


def test_what_an_origin_does_not_mention_does_not_exist(drive, make_store):
    """A load_many that leaves keys out has no values for them."""

    class Terse(hc.Origin):
        def load_many(self, keys):
            return {key: hc.Loaded(key) for key in keys if key != "b"}

    store = make_store(Terse())
    assert drive.get_many(store, ["a", "b", "c"]) == {"a": "a", "c": "c"}


def test_unhashable_and_unencodable_keys(drive, make_store):
    """Fault 18: a bad key among good ones is an error that leaves every key as it was."""
    source = Source({"a": 1, "b": 2})
    store = make_store(source)
    with pytest.raises(TypeError, match="unhashable"):
        drive.get_many(store, ["a", [], "b"])
    with pytest.raises(hc.KeyEncodingError):
        drive.get_many(store, ["a", frozenset(), "b"])
    assert source.batches == []
    assert drive.start("get", store, "a").result(PATIENCE) == 1
    assert drive.start("get_many", store, ["b", "a"]).result(PATIENCE) == {"a": 1, "b": 2}


def test_shares_single_loads(drive, make_store):
    """A key that somebody is loading already is waited for, the others are loaded."""
    source = Source({"a": 1, "b": 2, "c": 3})
    store = make_store(source)
    with stopped_load(drive, source, store, "b") as single:
        batch = drive.start("get_many", store, ["a", "b", "c"])
        wait_until(lambda: len(source.asked) == 3)
        assert not batch.done()
        assert source.batches == [["a", "c"]]
    assert single.result(PATIENCE) == 2
    assert batch.result(PATIENCE) == {"a": 1, "b": 2, "c": 3}
    assert sorted(source.asked) == ["a", "b", "c"]


def test_single_gets_share_a_batch(drive, make_store):
    """Who wants one key of a batch under way waits for the batch."""
    source = Source({"a": 1, "b": 2})
    gate = Gate()
    source.before_load = gate
    store = make_store(source)
    batch = drive.start("get_many", store, ["a", "b"])
    gate.wait_until_reached()
    singles = [drive.start("get", store, "b") for _ in range(3)]
    other = drive.start("get_many", store, ["b", "a"])
    gate.open()
    assert batch.result(PATIENCE) == other.result(PATIENCE) == {"a": 1, "b": 2}
    assert [single.result(PATIENCE) for single in singles] == [2, 2, 2]
    assert sorted(source.asked) == ["a", "b"]


def test_a_batch_shares_the_error_of_a_single_load(drive, make_store):
    """When the load that a batch waits for fails, that key fails and the others are there."""
    source = Source({"a": 1, "b": ValueError("b")})
    gate = Gate()
    source.before_load = lambda key: gate() if key == "b" else None
    store = make_store(source)
    single = drive.start("get", store, "b")
    gate.wait_until_reached()
    batch = drive.start("get_many", store, ["a", "b"])
    wait_until(lambda: len(source.asked) == 2)
    assert not batch.done()
    gate.open()
    assert isinstance(single.exception(PATIENCE), ValueError)
    error = batch.exception(PATIENCE)
    assert isinstance(error, hc.PartialLoadError)
    assert error.found == {"a": 1}
    assert set(error.errors) == {"b"}


def test_stale_copies_are_renewed_conditionally(drive, make_store, clock):
    """A batch sends the validators of every copy it holds, and keeps what is not modified."""
    source = Source({"a": 1, "b": 2}, etags=True)
    store = make_store(source, ttl=10, stale=100)
    drive.get_many(store, ["a", "b"])
    source.held.clear()
    source.values["b"] = 22
    clock.now += 11
    assert drive.get_many(store, ["a", "b", "c"]) == {"a": 1, "b": 22}
    assert source.held == [hc.Validators(etag="1"), hc.Validators(etag="2"), None]
    assert store.stats().origin.not_modified == 1
    clock.now += 9
    source.batches.clear()
    assert drive.get_many(store, ["a", "b"]) == {"a": 1, "b": 22}
    assert source.batches == []


def test_stale_copies_are_served_where_the_origin_fails(drive, make_store, clock):
    """In a batch too, a copy past its ttl is better than an error."""
    source = Source({"a": 1, "b": 2})
    store = make_store(source, ttl=10, stale=100)
    drive.get_many(store, ["a", "b"])
    clock.now += 11
    source.values = {"a": OSError("down"), "b": hc.NotFound(), "c": OSError("down")}
    with pytest.raises(hc.PartialLoadError) as caught:
        drive.get_many(store, ["a", "b", "c"])
    assert caught.value.found == {"a": 1}
    assert set(caught.value.errors) == {"c"}
    assert store.stats().origin.stale_served == 1
