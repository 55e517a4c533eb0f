"""Origins made of origins: another cache, one after the other, many side by side."""

from __future__ import annotations

import threading

import pytest

import hybridcore as hc
from hybridcore.origins import CacheOrigin, FallbackOrigin, Meter, Origin, ShardedOrigin
from hybridcore.types import Loaded, NotFound, NotModified, Validators


class Shelf(Origin):
    """Rows that can be counted and taken away; ``entries`` keeps what it is given as it is."""

    def __init__(self, name="shelf", rows=(), *, entries=False):
        self.name = name
        self.rows = dict(rows)
        self.takes_entries = entries
        self.down = None
        self.asked = []
        self.closed = 0
        self.meter = Meter()

    def _touch(self, what):
        self.asked.append(what)
        self.meter.record()
        if self.down is not None:
            raise self.down

    def load(self, key, held=None):
        self._touch(key)
        if key not in self.rows:
            return NotFound()
        value = self.rows[key]
        return value if isinstance(value, (Loaded, NotModified)) else Loaded(value)

    def load_many(self, keys):
        self._touch(list(keys))
        return {key: Loaded(self.rows[key]) if key in self.rows else NotFound() for key in keys}

    def store(self, key, value):
        self._touch(key)
        self.rows[key] = value

    def delete(self, key):
        self._touch(key)
        self.rows.pop(key, None)

    def usage(self):
        return self.meter.usage()

    def close(self):
        self.closed += 1


DOWN = hc.OriginUnavailableError("down")


# -- sharded -----------------------------------------------------------------------------------


def shards(count, **options):
    shelves = {f"s{i}": Shelf(f"s{i}") for i in range(count)}
    return shelves, ShardedOrigin(shelves, **options)


def test_keys_spread_and_are_found_again(call):
    """Each key is of one shard, about as many of each, and all methods agree on which."""
    shelves, origin = shards(4)
    items = {f"key{i}": i for i in range(1000)}
    assert call(origin, "store_many", items) == {}
    assert all(200 < len(shelf.rows) < 300 for shelf in shelves.values())
    assert call(origin, "load_many", [*items, "no"]) == {
        **{key: Loaded(value) for key, value in items.items()},
        "no": NotFound(),
    }
    for key in "key1", "key2", ("key", 3), b"4", None:
        call(origin, "store", key, 0)
        assert key in shelves[origin.shard_of(key)].rows
        assert call(origin, "load", key) == Loaded(0)
        call(origin, "delete", key)
        assert call(origin, "load", key) == NotFound()
    assert call(origin, "delete_many", items) == {}
    assert not any(shelf.rows for shelf in shelves.values())


def test_where_keys_are_follows_from_the_names_alone():
    """Fault 9: every host and version finds a key where another put it."""
    origin = ShardedOrigin({name: Shelf() for name in ("a", "b", "c")})
    assert [origin.shard_of(key) for key in ("k", 1, b"x", None, ("a", 2))] == list("cacab")
    other = ShardedOrigin({name: Shelf() for name in ("c", "a", "b")})
    assert [other.shard_of(i) for i in range(100)] == [origin.shard_of(i) for i in range(100)]


def test_a_shard_more_moves_only_its_own_keys():
    """Of four shards that become five, about a fifth of the keys move, all of them to the new."""
    _, four = shards(4)
    _, five = shards(5)
    moved = [five.shard_of(i) for i in range(2000) if four.shard_of(i) != five.shard_of(i)]
    assert set(moved) == {"s4"}
    assert 300 < len(moved) < 500


def test_a_dead_shard_fails_only_its_keys(call):
    """The others answer, and after a while the dead one is not asked: its breaker is open."""
    shelves, origin = shards(3, breaker=hc.Breaker(failures=2, open_for=60))
    items = dict.fromkeys(range(100), "v")
    call(origin, "store_many", items)
    shelves["s1"].down = DOWN
    lost = [key for key in items if origin.shard_of(key) == "s1"]
    for _ in range(3):
        answers = call(origin, "load_many", items)
        assert [key for key, answer in answers.items() if isinstance(answer, Exception)] == lost
    assert isinstance(answers[lost[0]], hc.BreakerOpenError)
    assert list(call(origin, "store_many", items)) == lost
    assert list(call(origin, "delete_many", items)) == lost
    with pytest.raises(hc.BreakerOpenError):
        call(origin, "load", lost[0])
    assert [stats.breaker.state for stats in origin.guards().values()] == [
        "closed",
        "open",
        "closed",
    ]
    assert len(shelves["s1"].asked) == len(lost) + 2


def test_shards_are_asked_at_the_same_time(call):
    """A batch waits for the slowest shard, not for one after the other."""
    together = threading.Barrier(3, timeout=20)

    class Waiting(Shelf):
        def load_many(self, keys):
            together.wait()
            return super().load_many(keys)

    origin = ShardedOrigin({name: Waiting() for name in "abc"})
    assert set(call(origin, "load_many", range(50)).values()) == {NotFound()}


def test_keys_without_a_form_fail_alone(call):
    """A key that cannot be placed is an error of its own."""
    _, origin = shards(2)
    answers = call(origin, "load_many", [1, 1j])
    assert answers[1] == NotFound()
    assert isinstance(answers[1j], hc.KeyEncodingError)
    assert list(call(origin, "store_many", {1j: 1})) == [1j]
    with pytest.raises(hc.KeyEncodingError):
        call(origin, "load", 1j)


def test_usage_and_closing_of_the_parts(call):
    """What each counted is told by name and added up; closing closes all, also if one fails."""
    shelves, origin = shards(2)
    call(origin, "load_many", range(20))
    usage = origin.usage()
    assert {name: part.calls for name, part in usage.parts.items()} == {"s0": 1, "s1": 1}
    assert usage.calls == 2
    shelves["s0"].close = lambda: (_ for _ in ()).throw(OSError("stuck"))
    with pytest.raises(OSError, match="stuck"):
        call(origin, "close")
    assert shelves["s1"].closed == 1
    assert ShardedOrigin({"f": hc.CallableOrigin(str)}).usage() is None


@pytest.mark.parametrize("members", [{}, {"a": str}])
def test_what_cannot_be_sharded(members):
    """No origins, and what is none, are refused."""
    with pytest.raises(hc.ConfigurationError, match=r"ShardedOrigin is"):
        ShardedOrigin(members)


# -- fallback ----------------------------------------------------------------------------------


def test_the_next_is_asked_when_one_fails(call):
    """A primary that is down is made up for; what it does not have, does not exist."""
    primary, mirror = Shelf("primary", {"a": 1}), Shelf("mirror", {"a": 1, "b": 2})
    origin = FallbackOrigin(primary, mirror)
    assert call(origin, "load", "a") == Loaded(1)
    assert call(origin, "load", "b") == NotFound()
    assert mirror.asked == []
    primary.down = DOWN
    assert call(origin, "load", "b") == Loaded(2)
    assert call(origin, "load_many", "ab") == {"a": Loaded(1), "b": Loaded(2)}
    mirror.down = hc.OriginTimeoutError("late")
    with pytest.raises(hc.OriginTimeoutError):
        call(origin, "load", "a")
    answers = call(origin, "load_many", "ab")
    assert all(isinstance(answer, hc.OriginTimeoutError) for answer in answers.values())


def test_only_the_keys_that_failed_go_on(call):
    """In a batch the next one is asked for those keys alone that the first could not answer."""

    class Partly(Shelf):
        def load_many(self, keys):
            return super().load_many(keys) | {"bad": DOWN}

    mirror = Shelf("mirror", {"bad": 2})
    origin = FallbackOrigin(Partly("primary", {"a": 1}), mirror)
    answers = call(origin, "load_many", ["a", "bad", "no"])
    assert answers == {"a": Loaded(1), "bad": Loaded(2), "no": NotFound()}
    assert mirror.asked == [["bad"]]


def test_writes_go_to_the_first_of_equals(call):
    """The mirror is not written, and a primary that is down refuses."""
    primary, mirror = Shelf("primary"), Shelf("mirror")
    origin = FallbackOrigin(primary, mirror)
    call(origin, "store", "a", Loaded(1, ttl=5))
    assert call(origin, "store_many", {"b": 2}) == {}
    assert (primary.rows, mirror.rows) == ({"a": 1, "b": 2}, {})
    call(origin, "delete", "a")
    assert call(origin, "delete_many", ["b"]) == {}
    assert primary.rows == {}
    primary.down = DOWN
    with pytest.raises(hc.OriginUnavailableError):
        call(origin, "store", "a", 1)
    assert not FallbackOrigin(hc.CallableOrigin(str), mirror).writable
    with pytest.raises(hc.ReadOnlyOriginError):
        call(FallbackOrigin(hc.CallableOrigin(str), mirror), "store", "a", 1)


def test_copies_are_filled(call):
    """What a copy lacks comes from the truth, and is there next time, no longer than told."""
    copy, truth = Shelf("copy", entries=True), Shelf("truth", {"a": Loaded(1, ttl=5), "b": 2})
    origin = FallbackOrigin(copy, truth, fill="1m")
    assert call(origin, "load", "a") == Loaded(1, ttl=5)
    assert call(origin, "load", "b") == Loaded(2)
    assert copy.rows == {"a": Loaded(1, ttl=5), "b": Loaded(2, ttl=60)}
    assert call(origin, "load", "b") == Loaded(2, ttl=60)
    assert call(origin, "load", "c") == NotFound()
    assert truth.asked == ["a", "b", "c"]


def test_batches_fill_copies(call):
    """Only what a copy lacks is asked of the truth, and stored at once."""
    copy, truth = Shelf("copy", {"a": 1}), Shelf("truth", {"a": 0, "b": 2, "c": 3})
    origin = FallbackOrigin(copy, truth, fill=60)
    answers = call(origin, "load_many", "abcd")
    assert answers == {"a": Loaded(1), "b": Loaded(2), "c": Loaded(3), "d": NotFound()}
    assert truth.asked == [["b", "c", "d"]]
    assert copy.rows == {"a": 1, "b": 2, "c": 3}


def test_a_copy_that_is_down_is_passed_over(call):
    """Reads and writes go on without it, and it is not filled; the truth that is down is told."""
    copy, truth = Shelf("copy"), Shelf("truth", {"a": 1})
    origin = FallbackOrigin(copy, truth, fill=60, breaker=None)
    copy.down = DOWN
    assert call(origin, "load", "a") == Loaded(1)
    call(origin, "store", "b", 2)
    assert call(origin, "store_many", {"c": 3}) == {}
    assert truth.rows == {"a": 1, "b": 2, "c": 3}
    copy.down, truth.down = None, DOWN
    with pytest.raises(hc.OriginUnavailableError):
        call(origin, "load", "a")
    with pytest.raises(hc.OriginUnavailableError):
        call(origin, "store", "a", 2)
    assert copy.rows == {}


def test_writes_reach_the_truth_and_then_the_copies(call):
    """What the truth did not take no copy gets."""
    copy, truth = Shelf("copy", entries=True), Shelf("truth")
    origin = FallbackOrigin(copy, truth, fill=60)
    assert origin.takes_entries
    call(origin, "store", "a", Loaded(1, ttl=5))
    assert (truth.rows, copy.rows) == ({"a": 1}, {"a": Loaded(1, ttl=5)})
    assert call(origin, "store_many", {"b": 2}) == {}
    assert copy.rows["b"] == Loaded(2, ttl=60)
    truth.store = lambda key, value: (_ for _ in ()).throw(DOWN)
    assert list(call(origin, "store_many", {"c": 3})) == ["c"]
    assert "c" not in copy.rows
    call(origin, "delete", "a")
    assert call(origin, "delete_many", ["b"]) == {}
    assert (truth.rows, copy.rows) == ({}, {})


def test_copies_that_cannot_be_filled_are_refused():
    """What fill= is to store into has to take writes."""
    with pytest.raises(hc.ConfigurationError, match="expected to take writes; str does not"):
        FallbackOrigin(hc.CallableOrigin(str), Shelf(), fill=60)


def test_origins_of_one_name_are_told_apart():
    """Usage names each, the second of a name by its place."""
    assert list(FallbackOrigin(Shelf("x"), Shelf("x")).usage().parts) == ["x", "x 2"]


# -- a cache -----------------------------------------------------------------------------------


@pytest.fixture
def source():
    return Shelf("source", {"a": 1, "b": 2})


def test_a_cache_behind_a_cache(call, source):
    """The near one asks the far one, which asks the origin; what one loads all others find."""
    far = hc.HybridCache(hc.Memory(10), origin=source)
    near = [hc.HybridCache(hc.Memory(10), origin=far) for _ in range(2)]
    for store in near:
        assert store.get("a") == 1
        assert store.get_many("ab") == {"a": 1, "b": 2}
        assert store.get("c") is None
    assert source.asked == ["a", ["b"], "c", "c"]
    assert far.stats().memory.hits > 0
    assert near[0].stats().usage == far.stats().usage
    near[0].close()
    with pytest.raises(hc.ClosedError):
        far.get("a")


def test_the_ttl_left_comes_along(call, source):
    """No copy outlives the one it is of."""
    now = [0.0]
    far = hc.HybridCache(
        hc.Cache(10, timer=lambda: now[0]),
        origin=source,
        defaults=hc.EntryOptions(ttl=10, stale=60),
    )
    origin = CacheOrigin(far)
    assert call(origin, "load", "a") == Loaded(1, ttl=10)
    now[0] = 4.0
    assert call(origin, "load", "a") == Loaded(1, ttl=6)
    assert call(origin, "load_many", "ab") == {"a": Loaded(1, ttl=6), "b": Loaded(2, ttl=10)}
    now[0] = 12.0
    source.down = DOWN
    assert call(origin, "load", "a") == Loaded(1, ttl=0)
    call(origin, "close")


def test_what_the_far_one_cannot_load_is_an_error_of_its_key(call, source):
    """The keys that it has are answered, the others have its errors."""
    far = hc.HybridCache(hc.Memory(10), origin=source, breaker=None)
    origin = CacheOrigin(far)
    assert call(origin, "load", "a") == Loaded(1)
    source.down = DOWN
    answers = call(origin, "load_many", "ab")
    assert answers == {"a": Loaded(1), "b": DOWN}
    with pytest.raises(hc.OriginUnavailableError):
        call(origin, "load", "b")
    call(origin, "close")


def test_validators_of_the_far_one_are_checked(call, source):
    """A copy that is still that of the far one is not sent again."""
    source.rows["a"] = Loaded(1, ttl=10, validators=Validators("e"))
    far = hc.HybridCache(hc.Memory(10), origin=source)
    origin = CacheOrigin(far)
    answer = call(origin, "load", "a")
    assert answer.validators == Validators("e")
    assert isinstance(call(origin, "load", "a", Validators("e")), NotModified)
    assert isinstance(call(origin, "load", "a", Validators("f")), Loaded)
    call(origin, "close")


def test_writes_go_through_both(source):
    """A value and its ttl reach every tier and the origin, and so does a delete."""
    far = hc.HybridCache(hc.Memory(10), origin=source, strategy="write_through")
    near = hc.HybridCache(hc.Memory(10), origin=far, strategy="write_through")
    with near:
        near.put("c", 3, ttl=60)
        assert source.rows["c"] == 3
        assert 59 < far.entry("c").ttl_left <= 60
        near.delete("c")
        assert "c" not in source.rows
        assert far.get("c") is None
