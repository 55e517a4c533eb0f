"""`cached` with ``store=``: results that processes share, and tags filled from the arguments."""

from __future__ import annotations

import asyncio
import datetime

import pytest

import hybridcore as hc


@pytest.fixture
def stores(tmp_path):
    """Two caches on one directory."""
    with (
        hc.HybridCache(hc.Memory(100), hc.Lmdb(tmp_path / "cache")) as one,
        hc.HybridCache(hc.Memory(100), hc.Lmdb(tmp_path / "cache")) as other,
    ):
        yield one, other


def test_tags_are_filled_from_the_arguments(stores):
    """What a call returned goes with the tags of its arguments, in all processes."""
    store, other = stores
    calls = []

    @hc.cached(
        store=store,
        ttl="1h",
        key=lambda uid, day: (uid, str(day)),
        tags=("user:{uid}", "day:{day:%Y-%m}", "all"),
    )
    def profile(uid, day=datetime.date(2026, 11, 23)):
        calls.append(uid)
        return {"uid": uid}

    assert profile(7) == profile(uid=7) == {"uid": 7}
    assert profile(8) == {"uid": 8}
    assert calls == [7, 8]
    assert set(store.entry(profile.cache_key(7)).tags) == {"user:7", "day:2026-11", "all"}
    other.invalidate(tags=["user:7"])
    profile(7), profile(8)
    assert calls == [7, 8, 7]
    other.invalidate(tags=["day:2026-11"])
    profile(7), profile(8)
    assert calls == [7, 8, 7, 7, 8]
    profile.invalidate(8)
    profile(7), profile(8)
    assert calls == [7, 8, 7, 7, 8, 8]
    profile.cache_clear()
    profile(7)
    assert len(calls) == 7
    assert profile.__name__ == "profile"


def test_tags_look_into_arguments(stores):
    """A template may name an attribute or an item, and methods are tagged by their instance."""

    class Team:
        def __init__(self, name):
            self.name = name

        @hc.cached(
            store=stores[0], key=lambda self, members: self.name, tags="{self.name}/{members[0]}"
        )
        def size(self, members):
            return len(members)

    team = Team("red")
    assert team.size(["ada", "bob"]) == 2
    assert stores[0].entry(team.size.cache_key(["ada"])).tags == ("red/ada",)
    stores[0].invalidate(tags=["red/ada"])
    assert team.size(["ada"]) == 1
    team.size.invalidate([])
    assert team.size([5, 5, 5]) == 3


def test_coroutines(stores):
    """An async def is awaited as ever."""
    calls = []

    @hc.cached(store=stores[0], tags="user:{uid}")
    async def profile(uid, *rest, **options):
        calls.append(uid)
        return uid

    async def act():
        assert await profile(7, 1, a=2) == await profile(7, 1, a=2) == 7
        await stores[1].aio.invalidate(tags=["user:7"])
        assert await profile(7, 1, a=2) == 7

    asyncio.run(act())
    assert calls == [7, 7]


def test_what_is_wrong_is_told_at_decoration(stores):
    """A template that names no argument is refused, with the nearest name; so are vain options."""

    def profile(uid, tenant):
        return uid

    for tags, told in (
        ("user:{uidd}", r"did you mean \{uid\}\?"),
        ("user:{xyz}", "there are uid, tenant"),
        ("user:{uid", "malformed"),
        ("user:{}", "there are uid, tenant"),
        ((5,), "a tag is expected"),
        ("", "a tag is expected"),
    ):
        with pytest.raises(hc.ConfigurationError, match=told):
            hc.cached(store=stores[0], tags=tags)(profile)
    with pytest.raises(hc.ConfigurationError, match="give store="):
        hc.cached(tags="user:{uid}")
    with pytest.raises(hc.ConfigurationError, match="leave typed out"):
        hc.cached(store=stores[0], typed=True)
    with pytest.raises(hc.ConfigurationError, match="leave maxsize out"):
        hc.cached(5, store=stores[0])
