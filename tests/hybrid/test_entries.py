"""What is told of an entry without using it, and writes that depend on its version."""

import pytest

import hybridcore as hc
from hybridcore.types import Tier

from .conftest import Source


@pytest.fixture(params=["both", "memory", "disk"])
def tiers(request):
    """Which tiers the store has."""
    return request.param


@pytest.fixture
def make(make_store, tiers):
    """Make a store of these tiers."""

    def make(source=None, **options):
        if tiers == "memory":
            options["disk"] = None
        if tiers == "disk":
            options["memory"] = None
        return make_store(source, **options)

    return make


# -- entry -------------------------------------------------------------------------------------


def test_what_an_entry_tells(drive, make, clock, tiers):
    """Value, tier, age, what is left, and what the origin sent along."""
    store = make(Source({"k": "v"}, etags=True), ttl=10, stale=100)
    drive.get(store, "k")
    clock.now += 4
    entry = drive.entry(store, "k")
    assert entry.value == "v"
    assert entry.tier is (Tier.DISK if tiers == "disk" else Tier.MEMORY)
    assert entry.age == pytest.approx(4)
    assert entry.ttl_left == pytest.approx(6)
    assert not entry.stale
    assert entry.etag == "'v'"
    assert entry.tags == ()
    assert entry.version > 0


def test_a_stale_entry(drive, make, clock):
    """It is told of until it is gone for good."""
    store = make(Source({"k": "v"}, etags=True), ttl=10, stale=100)
    drive.get(store, "k")
    clock.now += 11
    for _ in range(2):
        entry = drive.entry(store, "k")
        assert entry.stale
        assert entry.value == "v"
        assert entry.ttl_left == pytest.approx(-1)
    assert drive.peek(store, "k") is None
    clock.now += 98
    assert drive.entry(store, "k").stale
    clock.now += 2
    assert drive.entry(store, "k") is None


def test_an_entry_that_never_expires(drive, make):
    """It has no age to tell against, and nothing is left to count."""
    store = make()
    drive.put(store, "k", "v")
    entry = drive.entry(store, "k")
    assert (entry.age, entry.ttl_left, entry.stale, entry.etag) == (None, None, False, None)


def test_an_entry_that_is_due(drive, make, clock):
    """Until it expires it is as fresh as any, and what is left is told to the end of its ttl."""
    store = make(Source({"k": "v"}), ttl=10, refresh_ahead=0.5)
    drive.get(store, "k")
    clock.now += 6
    for _ in range(2):
        entry = drive.entry(store, "k")
        assert not entry.stale
        assert entry.ttl_left == pytest.approx(4)
        assert entry.age == pytest.approx(6)
    clock.now += 3
    assert drive.peek(store, "k") == "v"


def test_none_there(drive, make):
    """Nobody has the key: no entry, and nobody is asked."""
    source = Source({"k": 1})
    store = make(source)
    assert drive.entry(store, "k") is None
    assert drive.peek(store, "k", "nothing") == "nothing"
    assert source.asked == []


def test_looking_changes_nothing(drive, make, clock):
    """Neither counters nor lifetimes move, however often one looks."""
    source = Source({"k": "v"})
    store = make(source, ttl=10, stale=20)
    drive.put(store, "k", "v", options=hc.EntryOptions(ttl=5, stale=100), cost=4.0)
    drive.entry(store, "k")
    before = store.stats()
    for _ in range(3):
        assert drive.entry(store, "k").value == "v"
        assert drive.peek(store, "k") == "v"
        assert drive.peek(store, "absent") is None
    after = store.stats()
    if before.memory:
        assert (after.memory.hits, after.memory.misses) == (
            before.memory.hits,
            before.memory.misses,
        )
        assert after.memory.updates == before.memory.updates
    assert after.origin == before.origin
    clock.now += 60
    source.values["k"] = OSError("down")
    assert drive.get(store, "k") == "v"


def test_looking_does_not_promote(drive, make_store):
    """What only the disk has stays there."""
    store = make_store(Source({"k": "v"}))
    drive.get(store, "k")
    store.memory.clear()
    assert drive.entry(store, "k").tier is Tier.DISK
    assert drive.peek(store, "k") == "v"
    assert len(store.memory) == 0
    assert store.stats().origin.promoted == 0


def test_promotion_is_counted(drive, make_store):
    """What is used from disk goes to memory, once."""
    store = make_store(Source({"k": "v"}))
    drive.get(store, "k")
    store.memory.clear()
    drive.get(store, "k")
    drive.get(store, "k")
    assert store.stats().origin.promoted == 1
    assert drive.entry(store, "k").tier is Tier.MEMORY


# -- versions ----------------------------------------------------------------------------------


def test_versions_grow(drive, make):
    """Each write has a new one, and looking again has the same."""
    store = make()
    seen = []
    for value in range(4):
        drive.put(store, "k", value)
        version = drive.entry(store, "k").version
        assert drive.entry(store, "k").version == version
        seen.append(version)
    assert seen == sorted(set(seen))


def test_a_write_that_depends_on_a_version(drive, make):
    """It is made once, and not after another write."""
    store = make()
    drive.put(store, "k", 1)
    version = drive.entry(store, "k").version
    drive.put(store, "k", 2, if_version=version)
    with pytest.raises(hc.VersionConflictError) as caught:
        drive.put(store, "k", 3, if_version=version)
    assert drive.get(store, "k") == 2
    assert str(version) in str(caught.value)
    drive.put(store, "k", 4, if_version=drive.entry(store, "k").version)
    assert drive.get(store, "k") == 4


def test_a_write_that_wants_no_entry(drive, make):
    """Version 0 is for a key that nobody has."""
    store = make()
    drive.put(store, "k", 1, if_version=0)
    with pytest.raises(hc.VersionConflictError):
        drive.put(store, "k", 2, if_version=0)
    assert drive.get(store, "k") == 1
    drive.delete(store, "k")
    drive.put(store, "k", 3, if_version=0)
    assert drive.get(store, "k") == 3


def test_the_version_of_what_is_gone(drive, make):
    """Deleted, or deleted and written again: it is another entry."""
    store = make()
    drive.put(store, "k", 1)
    version = drive.entry(store, "k").version
    drive.delete(store, "k")
    with pytest.raises(hc.VersionConflictError):
        drive.put(store, "k", 2, if_version=version)
    assert drive.get(store, "k") is None
    drive.put(store, "k", 1)
    with pytest.raises(hc.VersionConflictError):
        drive.put(store, "k", 2, if_version=version)
    assert drive.get(store, "k") == 1


def test_a_load_is_a_new_version(drive, make, clock):
    """What was loaded since is not overwritten either."""
    source = Source({"k": 1})
    store = make(source, ttl=10)
    drive.get(store, "k")
    version = drive.entry(store, "k").version
    clock.now += 11
    source.values["k"] = 2
    drive.get(store, "k")
    with pytest.raises(hc.VersionConflictError):
        drive.put(store, "k", 3, if_version=version)
    assert drive.get(store, "k") == 2


def test_a_conflict_under_write_through(drive, make):
    """The origin is not written."""
    source = Source()
    store = make(source, strategy="write_through")
    drive.put(store, "k", 1)
    version = drive.entry(store, "k").version
    drive.put(store, "k", 2)
    with pytest.raises(hc.VersionConflictError):
        drive.put(store, "k", 3, if_version=version)
    assert source.values == {"k": 2}


def test_counting_together(drive, make):
    """Who reads, adds and writes if nobody came between, again if somebody did, counts right."""
    store = make()
    drive.put(store, "k", 0)

    def add():
        while True:
            entry = store.entry("k")
            try:
                store.put("k", entry.value + 1, if_version=entry.version)
                return
            except hc.VersionConflictError:
                continue

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(add) for _ in range(100)]:
            one.result(20)
    assert drive.get(store, "k") == 100


def test_two_stores_on_one_directory(drive, tmp_path, clock):
    """What another store wrote to the same disk is a conflict, though memory does not know it."""

    def store():
        return hc.HybridCache(
            hc.Cache(10, timer=clock.seconds),
            hc.Lmdb(tmp_path / "shared", clock=clock.nanoseconds),
        )

    with store() as one, store() as other:
        drive.put(one, "k", 1)
        version = drive.entry(one, "k").version
        assert drive.entry(other, "k").version == version
        drive.put(other, "k", 2, if_version=version)
        with pytest.raises(hc.VersionConflictError):
            drive.put(one, "k", 3, if_version=version)
        assert drive.get(other, "k") == 2
        drive.put(one, "k", 3, if_version=drive.entry(one, "k").version)
        assert drive.get(one, "k") == 3
