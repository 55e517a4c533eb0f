"""What an origin says of an answer beside its value: for how long it is kept, and whether."""

from __future__ import annotations

import pytest

import hybridcore as hc

from .conftest import Source

MARK = hc.Validators(etag="1")
STRICT = hc.Validators(etag="1", must_revalidate=True)


@pytest.fixture(params=["memory", "disk"])
def left(request):
    """Leave a store with what one of its tiers holds of ``k``."""

    def left(store):
        if request.param == "memory":
            store._engine.disk.delete("k")
        else:
            store.memory.discard("k")

    return left


def test_a_value_that_is_not_to_be_kept_is_in_no_tier(drive, make_store):
    """With ``store=False`` the caller gets the value, nobody keeps it, and the next one asks."""
    source = Source({"k": hc.Loaded("v", ttl=60, validators=MARK, store=False)})
    store = make_store(source, ttl=10, stale=100)
    assert drive.get(store, "k") == "v"
    assert drive.get_many(store, ["k"]) == {"k": "v"}
    assert source.asked == ["k", "k"]
    assert source.held == [None, None]
    assert "k" not in store.memory
    assert "k" not in store._engine.disk


@pytest.mark.parametrize(
    "answer", [hc.Loaded("new", store=False), hc.NotModified(store=False)], ids=["new", "same"]
)
def test_what_was_kept_before_goes(drive, make_store, clock, left, answer):
    """An answer that is not to be kept leaves no older copy behind, and one to a 304 neither."""
    source = Source({"k": hc.Loaded("v", validators=MARK)})
    store = make_store(source, ttl=10, stale=100)
    drive.get(store, "k")
    left(store)
    clock.now += 11
    source.values["k"] = answer
    assert drive.get(store, "k") == ("v" if isinstance(answer, hc.NotModified) else "new")
    source.values["k"] = OSError("down")
    with pytest.raises(OSError, match="down"):
        drive.get(store, "k")
    assert "k" not in store._engine.disk


@pytest.mark.parametrize(("stale", "served"), [(0, False), (20, True), (500, True), (None, True)])
def test_the_origin_says_how_long_a_copy_may_be_served(
    drive, make_store, clock, left, stale, served
):
    """``stale`` of an answer counts in the place of the cache's, be it shorter or longer."""
    source = Source({"k": hc.Loaded("v", stale=stale)})
    store = make_store(source, ttl=10, stale=100)
    drive.get(store, "k")
    left(store)
    clock.now += 20
    source.values["k"] = OSError("down")
    if served:
        assert drive.get(store, "k") == "v"
        clock.now += 400 if stale == 500 else 100
    if stale == 500:
        assert drive.get(store, "k") == "v"
    else:
        with pytest.raises(OSError, match="down"):
            drive.get(store, "k")


def test_a_stale_time_where_the_cache_has_no_ttl(drive, make_store, clock, left):
    """An answer with a ttl and a stale time has both, though the cache's entries never expire."""
    source = Source({"k": hc.Loaded("v", ttl=10, stale=20)})
    store = make_store(source)
    drive.get(store, "k")
    left(store)
    clock.now += 25
    source.values["k"] = OSError("down")
    assert drive.get(store, "k") == "v"
    clock.now += 6
    with pytest.raises(OSError, match="down"):
        drive.get(store, "k")


def test_a_copy_that_must_be_checked_is_never_served_past_its_ttl(drive, make_store, clock, left):
    """It is renewed by "not modified", but neither a failure nor a slow origin lets it out."""
    source = Source({"k": hc.Loaded("v", validators=STRICT)})
    store = make_store(source, ttl=10, stale=100, soft_timeout=0.001, throttle=50)
    assert drive.get(store, "k") == "v"
    left(store)
    clock.now += 11
    source.values["k"] = OSError("down")
    for _ in range(2):
        with pytest.raises(OSError, match="down"):
            drive.get(store, "k")
    assert len(source.asked) == 3
    source.values["k"] = hc.NotModified()
    assert drive.get(store, "k") == "v"
    assert source.held[-1] == STRICT
    assert drive.get(store, "k") == "v"
    assert len(source.asked) == 4
    assert store.stats().origin.stale_served == 0


def test_not_modified_may_bring_other_validators(drive, make_store, clock, left):
    """The validators of a "not modified" are held from then on, and its stale time counts."""
    source = Source({"k": hc.Loaded("v", validators=MARK)})
    store = make_store(source, ttl=10, stale=100)
    drive.get(store, "k")
    left(store)
    clock.now += 11
    other = hc.Validators(etag="2")
    source.values["k"] = hc.NotModified(ttl=5, validators=other, stale=1)
    drive.get(store, "k")
    clock.now += 5.5
    source.values["k"] = OSError("down")
    assert drive.get(store, "k") == "v"
    assert source.held[-1] == other
    clock.now += 1
    with pytest.raises(OSError, match="down"):
        drive.get(store, "k")


def test_loaders_hand_the_terms_on(drive, make_store):
    """What a loader by key pattern returns keeps ``stale`` and ``store``."""
    store = make_store(ttl=10)
    asked = []

    @store.loader("once:{name}")
    def once(ctx):
        asked.append(ctx.key)
        ctx.ttl = 60
        return hc.Loaded("v", store=False)

    assert drive.get(store, "once:x") == drive.get(store, "once:x") == "v"
    assert len(asked) == 2
