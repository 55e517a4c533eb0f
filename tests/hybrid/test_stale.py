"""Copies past their ttl: renewed, replaced, dropped, or served while the origin fails."""

import pytest

import hybridcore as hc

from .conftest import Source


@pytest.fixture(params=["memory", "disk", "both"])
def where(request):
    """Which tier has the stale copy."""
    return request.param


@pytest.fixture
def make_stale(drive, make_store, clock, where):
    """A store whose entry ``k`` is 1 second past its ttl of 10, with 99 of ``stale`` left."""

    def make(source):
        store = make_store(source, ttl=10, stale=100)
        assert drive.get(store, "k") == "v"
        if where == "memory":
            store._engine.disk.delete("k")
        elif where == "disk":
            store.memory.discard("k")
        clock.now += 11
        source.asked.clear()
        source.held.clear()
        return store

    return make


def test_renewed_when_not_modified(drive, make_stale, clock):
    """The origin gets the copy's validators; "not modified" makes the copy fresh again."""
    source = Source({"k": "v"}, etags=True)
    store = make_stale(source)
    assert drive.get(store, "k") == "v"
    assert source.held == [hc.Validators(etag="'v'")]
    clock.now += 9
    assert drive.get(store, "k") == "v"
    store.memory.clear()
    assert drive.get(store, "k") == "v"
    assert len(source.asked) == 1
    clock.now += 2
    assert drive.get(store, "k") == "v"
    assert source.held == [hc.Validators(etag="'v'")] * 2
    origin = store.stats().origin
    assert (origin.loads, origin.not_modified) == (3, 2)


def test_promotion_keeps_the_validators(drive, make_store, clock):
    """A copy that came from disk is renewed conditionally though the disk has lost it since."""
    source = Source({"k": "v"}, etags=True)
    store = make_store(source, ttl=10, stale=100)
    drive.get(store, "k")
    store.memory.clear()
    drive.get(store, "k")
    store._engine.disk.delete("k")
    clock.now += 11
    assert drive.get(store, "k") == "v"
    assert source.held == [None, hc.Validators(etag="'v'")]


def test_replaced_when_modified(drive, make_stale):
    """A new value takes the copy's place in both tiers."""
    source = Source({"k": "v"}, etags=True)
    store = make_stale(source)
    source.values["k"] = "new"
    assert drive.get(store, "k") == "new"
    assert store.memory.peek("k") == "new"
    assert store._engine.disk.get("k") == "new"


def test_dropped_when_not_found(drive, make_stale):
    """A copy of what the origin no longer has is gone, and is no fallback later."""
    source = Source({"k": "v"})
    store = make_stale(source)
    source.values["k"] = hc.NotFound()
    assert drive.get(store, "k", "default") == "default"
    source.values["k"] = OSError("down")
    with pytest.raises(OSError, match="down"):
        drive.get(store, "k")
    assert store.stats().disk.entries == 0


def test_served_while_the_origin_fails(drive, make_stale, clock, where):
    """Fault 24: the copy is served for as long as stale says, then the error reaches the caller."""
    source = Source({"k": "v"})
    store = make_stale(source)
    source.values["k"] = OSError("down")
    assert drive.get(store, "k") == "v"
    clock.now += 98
    assert drive.get(store, "k") == "v"
    assert store.stats().origin.stale_served == 2
    clock.now += 2
    with pytest.raises(OSError, match="down"):
        drive.get(store, "k")
    assert store.stats().origin.errors == 3
    source.values["k"] = "back"
    assert drive.get(store, "k") == "back"


def test_stale_is_not_fresh(drive, make_stale):
    """Every lookup past the ttl asks the origin, even while it fails."""
    source = Source({"k": "v"})
    store = make_stale(source)
    source.values["k"] = OSError("down")
    drive.get(store, "k")
    drive.get(store, "k")
    assert source.asked == ["k", "k"]
    assert not drive.contains(store, "k")


def test_a_failure_to_make_sense_serves_the_copy(drive, make_stale):
    """Whatever goes wrong with the answer, the copy is there."""
    source = Source({"k": "v"})
    store = make_stale(source)
    source.load = lambda key, held=None: "no answer"
    assert drive.get(store, "k") == "v"


def test_told_with_its_tier(drive, make_stale, where):
    """The listener hears where the served copy came from."""
    told = []
    source = Source({"k": "v"})
    store = make_stale(source)
    source.values["k"] = OSError("down")
    store._engine.listener = type(
        "Listener", (), {"looked_up": lambda self, key, tier, duration: told.append(tier.value)}
    )()
    drive.get(store, "k")
    assert told == ["memory" if where == "memory" else "disk"]


@pytest.mark.parametrize("drive", ["sync"], indirect=True)  # it would end the loop's own thread
def test_an_interrupt_serves_no_copy(make_stale, drive):
    """Fault 19: a load that was interrupted is no failure of the origin."""
    source = Source({"k": "v"})
    store = make_stale(source)
    source.values["k"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        drive.get(store, "k")
    source.values["k"] = "new"
    assert drive.get(store, "k") == "new"


def test_no_copy_without_an_origin(drive, make_store, clock):
    """Stale copies are served when the origin fails; without one, past the ttl is a miss."""
    store = make_store(ttl=10, stale=100)
    drive.put(store, "k", 1)
    clock.now += 11
    assert drive.get(store, "k") is None
    assert drive.get_many(store, ["k"]) == {}


def test_get_or_load_serves_the_copy(drive, make_store, clock):
    """A loader that fails is covered by the copy like any origin."""
    store = make_store(ttl=10, stale=100)
    assert drive.get_or_load(store, "k", lambda key: 1) == 1
    clock.now += 11

    def down(key):
        raise OSError("down")

    assert drive.get_or_load(store, "k", down) == 1
    assert drive.get_or_load(store, "k", lambda key: 2) == 2


def test_put_leaves_no_validators_behind(drive, make_store, clock):
    """What was put is not what the origin sent: it is not renewed with the old validators."""
    source = Source({"k": "v"}, etags=True)
    store = make_store(source, ttl=10, stale=100)
    drive.get(store, "k")
    drive.put(store, "k", "mine")
    clock.now += 11
    assert drive.get(store, "k") == "v"
    assert source.held == [None, None]


def test_a_clear_leaves_no_copy(drive, make_store, clock):
    """delete and clear take stale copies too."""
    source = Source({"k": "v", "l": "w"})
    store = make_store(source, ttl=10, stale=100)
    drive.get_many(store, ["k", "l"])
    clock.now += 11
    assert drive.delete(store, "k")
    source.values = {"k": OSError("down"), "l": OSError("down")}
    with pytest.raises(OSError, match="down"):
        drive.get(store, "k")
    assert drive.get(store, "l") == "w"
    drive.clear(store)
    with pytest.raises(OSError, match="down"):
        drive.get(store, "l")


def test_not_modified_out_of_nowhere(drive, make_store):
    """A 'not modified' without a copy is the origin's error, and leaves the key free."""
    source = Source({"k": hc.NotModified()})
    store = make_store(source)
    with pytest.raises(hc.OriginError, match="not modified"):
        drive.get(store, "k")
    source.values["k"] = 1
    assert drive.get(store, "k") == 1
