"""Namespaces: the same methods, and nobody else's entries."""

from __future__ import annotations

import asyncio

import pytest

import hybridcore as hc


@pytest.fixture
def store(tmp_path):
    with hc.HybridCache(
        hc.Memory(100),
        hc.Lmdb(tmp_path, durability="none"),
        defaults=hc.EntryOptions(ttl="1h", stale="1h"),
    ) as store:
        yield store


def test_keys_are_its_own(store):
    """A key of a namespace is found there and nowhere else, but by its tuple."""
    ann, bob = store.namespace("ann"), store.namespace("bob")
    ann.put("k", 1)
    bob["k"] = 2
    store.put("k", 3)
    assert (ann.get("k"), bob["k"], store["k"]) == (1, 2, 3)
    assert store.get_many([("ann", "k"), ("bob", "k")]) == {("ann", "k"): 1, ("bob", "k"): 2}
    assert "k" in ann
    assert ann.delete("k")
    assert not ann.contains("k")
    assert ann.get("k", 0) == 0
    with pytest.raises(KeyError):
        ann["k"]
    with pytest.raises(KeyError):
        del ann["k"]
    assert bob.get_many(["k", "l"]) == {"k": 2}
    with pytest.raises(TypeError):
        iter(ann)


def test_nested(store):
    """A namespace within another is apart from it, whatever its keys are."""
    outer = store.namespace("a")
    inner = outer.namespace("b")
    inner.put("k", 1)
    outer.put(("b", "k"), 2)
    outer.put("b", 3)
    assert (inner.get("k"), outer.get(("b", "k")), outer.get("b")) == (1, 2, 3)
    assert store.get(("a", "b", "k")) == 1


def test_clear_stays_inside(store, tmp_path):
    """Clearing empties the namespace and those in it, in memory and on disk, stale ones too."""
    ann, bob = store.namespace("ann"), store.namespace("bob")
    for n in range(200):  # more than memory holds
        ann.put(n, n)
        ann.namespace("deep").put(n, n)
        bob.put(n, n)
    ann.put("expired", 1, ttl=0)
    ann.put("long" * 500, 1)
    store.put("ann", "not one of them")
    store.put(("anna", 1), "nor this")
    ann.clear()
    assert ann.get_many(range(200)) == {}
    assert ann.namespace("deep").get_many(range(200)) == {}
    assert not [key for key in store.memory.coldest(1000) if key[:1] == ("ann",)]
    assert ("ann", "expired") not in store.memory
    assert bob.get_many(range(200)) == {n: n for n in range(200)}
    assert store.get("ann") == "not one of them"
    assert store.get(("anna", 1)) == "nor this"
    assert store.stats().disk.entries == 202


def test_clear_during_a_load(store):
    """What a load brings after a clear is handed out, but not kept."""
    ann = store.namespace("ann")

    def loader(key: str) -> str:
        ann.clear()
        return key

    assert ann.get_or_load("k", loader) == "k"
    assert not ann.contains("k")


def test_loaders_get_the_key_of_the_namespace(store):
    """A loader knows nothing of namespaces; the store's own origin gets the tuple."""
    assert store.namespace("ann").get_or_load("k", str.upper) == "K"
    assert store.get(("ann", "k")) == "K"

    async def load(key: str) -> str:
        return key * 2

    async def main() -> None:
        ann = store.namespace("ann").aio
        assert await ann.get_or_load("x", load) == "xx"
        assert await ann.get("x") == "xx"
        assert await ann.get_many(["x", "y"]) == {"x": "xx"}
        await ann.put("y", "z")
        assert await ann.contains("y")
        assert await ann.delete("y")
        await ann.clear()
        assert await ann.get("x", "gone") == "gone"

    asyncio.run(main())
    with hc.HybridCache(origin=lambda key: key) as asked:
        assert asked.namespace("ann").get("k") == ("ann", "k")


def test_partial_failures_name_the_keys_of_the_namespace():
    """What is found and what failed is told by the keys that were asked for."""

    def load(key: tuple[str, int]) -> int:
        if key[1] == 2:
            raise OSError("no")
        return key[1]

    with hc.HybridCache(origin=load) as store:
        ann = store.namespace("ann")
        with pytest.raises(hc.PartialLoadError) as error:
            ann.get_many([1, 2])
        assert error.value.found == {1: 1}
        assert list(error.value.errors) == [2]
        with pytest.raises(hc.PartialLoadError) as error:
            asyncio.run(ann.aio.get_many([1, 2]))
        assert list(error.value.errors) == [2]


def test_rules_match_the_tuple(store):
    """Key patterns see the tuple, so a rule is for one namespace or for all."""
    rules = {("{tenant}", "repo:{name}"): hc.EntryOptions(ttl="1d")}
    with hc.HybridCache(rules=rules) as other:
        assert other.rules.of((*other.namespace("ann").path, "repo:x")).ttl == 86400
