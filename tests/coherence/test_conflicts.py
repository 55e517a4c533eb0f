"""Conflicts: each row of the table in docs/coherence.md, for each policy."""

from __future__ import annotations

import threading

import pytest

import hybridcore as hc
from hybridcore.conflicts import Versioned
from hybridcore.testing.local_bus import LocalBus
from hybridcore.types import Loaded
from tests.coherence.test_bus import eventually


def merge(key, held, new):
    """Both values, in the order in which they came."""
    return f"{held.value}+{new.value}"


POLICIES = {
    "last_writer_wins": "last_writer_wins",
    "highest_version": "highest_version",
    "origin_wins": "origin_wins",
    "merge": merge,
}


@pytest.fixture(params=["disk", "memory"])
def caches(request, tmp_path):
    """Makes two caches on one directory, or one in memory alone, twice."""
    made = []

    def make(origin=None, conflict="last_writer_wins", **options):
        defaults = hc.EntryOptions(ttl="1h", stale="1h", lease=None, conflict=conflict)
        for _ in range(2 if request.param == "disk" else 1):
            disk = hc.Lmdb(tmp_path / "cache") if request.param == "disk" else None
            made.append(
                hc.HybridCache(
                    hc.Memory(100), disk, origin, defaults=defaults, breaker=None, **options
                )
            )
        return made[0], made[-1]

    make.shared = request.param == "disk"
    yield make
    for store in made:
        store.close()


class Slow:
    """An origin whose first load of a key is answered when it is told to."""

    def __init__(self, answer="loaded"):
        self.answer = answer
        self.reached, self.gate = threading.Event(), threading.Event()

    def __call__(self, key):
        answer = self.answer
        if not self.reached.is_set():
            self.reached.set()
            assert self.gate.wait(20)
        return answer


def during_a_load(store, origin, change):
    """Change something while a key is loaded; returns what the load gave its caller."""
    got = []
    reader = threading.Thread(target=lambda: got.append(store.get("k")))
    reader.start()
    assert origin.reached.wait(20)
    change()
    origin.gate.set()
    reader.join(20)
    return got[0]


@pytest.mark.parametrize("same", [True, False], ids=["here", "elsewhere"])
@pytest.mark.parametrize(
    ("policy", "stays"),
    [
        ("last_writer_wins", "put"),
        ("highest_version", "put"),
        ("origin_wins", "loaded"),
        ("merge", "put+loaded"),
    ],
)
def test_a_put_during_a_load(caches, policy, stays, same):
    """What was put while the key was loaded meets what the load brings."""
    origin = Slow()
    here, there = caches(origin, POLICIES[policy])
    during_a_load(here, origin, lambda: (here if same else there).put("k", "put"))
    for store in (here, there):
        assert store.get("k") == stays
        if caches.shared:
            store.memory.clear()
    assert here.get("k") == there.get("k") == stays


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("change", ["delete", "invalidate", "tag", "clear", "put, delete"])
def test_an_invalidation_during_a_load(caches, policy, change):
    """What was invalidated while it was loaded is kept under no policy."""
    origin = Slow(Loaded("old", tags=("t",)))
    here, there = caches(origin, POLICIES[policy])

    def act():
        origin.answer = "new"
        if change == "delete":
            there.delete("k")
        elif change == "invalidate":
            there.invalidate("k")
        elif change == "tag":
            there.invalidate(tags=["t"])
        elif change == "clear":
            there.clear()
        else:
            there.put("k", "put")
            there.delete("k")

    during_a_load(here, origin, act)
    assert here.get("k") == there.get("k") == "new"


@pytest.mark.parametrize(
    ("policy", "stays"),
    [
        ("last_writer_wins", "late"),
        ("highest_version", "held"),
        ("origin_wins", "late"),
        ("merge", "held+late"),
    ],
)
def test_a_put_that_comes_late(caches, policy, stays):
    """A value of a lower version is put after one of a higher version."""
    here, there = caches(conflict=POLICIES[policy])
    here.put("k", "held", version=5)
    there.put("k", "late", version=4)
    assert here.get("k") == there.get("k") == stays
    there.put("k", "newer", version=9)
    assert here.get("k") == there.get("k") == "newer"


def test_a_load_of_a_higher_version_wins(caches):
    """An origin that tells versions may be newer than what was put meanwhile."""
    origin = Slow(Loaded("loaded", version=7))
    here, there = caches(origin, "highest_version")
    during_a_load(here, origin, lambda: there.put("k", "put", version=6))
    assert here.get("k") == there.get("k") == "loaded"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_put_while_another_write_is_queued(caches, policy):
    """The newer write takes the place of the one that waits, and is what all read."""
    stored, gate = {}, threading.Event()

    def store_it(key, value):
        assert gate.wait(20)
        stored[key] = value

    origin = hc.CallableOrigin(lambda key: stored.get(key, "origin"), store=store_it)
    here, there = caches(origin, POLICIES[policy], strategy="write_behind")
    here.put("k", "first")
    here.put("k", "second")
    assert here.get("k") == "second"
    gate.set()
    assert here.flush(20)
    assert stored["k"] == here.get("k") == there.get("k") == "second"


def test_a_message_of_another_host(tmp_path):
    """A late message invalidates what is of no higher version than it."""
    bus = LocalBus()
    defaults = hc.EntryOptions(ttl="1h", conflict="highest_version")
    with (
        hc.HybridCache(hc.Memory(9), hc.Lmdb(tmp_path / "one"), defaults=defaults) as one,
        hc.HybridCache(hc.Memory(9), hc.Lmdb(tmp_path / "two"), defaults=defaults) as two,
    ):
        relay, other = one.connect(bus), two.connect(bus)
        eventually(lambda: relay.stats().gaps and other.stats().gaps)
        bus.delay = 100.0
        one.delete("k")
        eventually(lambda: relay.stats().published)
        two.put("k", "newer")
        two.put("l", "kept")
        bus.delay = 0.0
        one.delete("m")
        bus.hurry()
        eventually(lambda: other.stats().applied >= 2)
        assert two.get("k") == "newer"
        one.delete("k")
        eventually(lambda: two.get("k") is None)
        assert two.get("l") == "kept"


def test_merge_is_given_values_and_versions(caches):
    """Both with their versions; the result has a higher one than both."""
    seen = []

    def keep_both(key, held, new):
        seen.append((key, held, new))
        return "both"

    here, _ = caches(conflict=keep_both)
    here.put("k", "one", version=10)
    here.put("k", "two", version=8)
    assert seen == [("k", Versioned("one", 10, loaded=False), Versioned("two", 8, loaded=False))]
    here.put("k", "three", version=10)
    assert [(held.value, held.version) for _, held, _ in seen] == [("one", 10), ("both", 11)]


def test_a_merge_that_raises_leaves_everything(caches):
    """Whoever puts is told, and what is held stays, of the same version."""

    def fail(key, held, new):
        raise ValueError("no way to merge")

    origin = Slow()
    here, there = caches(origin, fail)
    with pytest.raises(ValueError, match="no way"):
        during_a_load_raising(here, origin, lambda: there.put("k", "put", version=5))
    assert here.get("k") == there.get("k") == "put"
    with pytest.raises(ValueError, match="no way"):
        here.put("k", "late", version=4)
    assert here.get("k") == there.get("k") == "put"


def during_a_load_raising(store, origin, change):
    """As `during_a_load`; raises what the reader met."""
    errors = []

    def read():
        try:
            store.get("k")
        except Exception as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert origin.reached.wait(20)
    change()
    origin.gate.set()
    reader.join(20)
    raise errors[0]


def test_by_call_and_by_pattern(caches):
    """A call goes before a pattern, and that before the cache."""
    here, _ = caches(
        conflict="highest_version", rules={"last:*": hc.EntryOptions(conflict="last_writer_wins")}
    )
    for key in ("k", "last:k"):
        here.put(key, "held", version=5)
        here.put(key, "late", version=4)
    assert (here.get("k"), here.get("last:k")) == ("held", "late")
    here.put("k", "late", version=4, options=hc.EntryOptions(conflict=merge))
    assert here.get("k") == "held+late"
    with pytest.raises(hc.ConfigurationError, match="one of last_writer_wins"):
        hc.EntryOptions(conflict="newest")
