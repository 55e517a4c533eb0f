"""What was invalidated is not served again: tags, dependencies, clears, here and elsewhere."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import hybridcore as hc
from hybridcore.invalidation import log
from hybridcore.invalidation.retention import Retention
from hybridcore.types import Loaded


@pytest.fixture
def caches(tmp_path):
    """Makes caches on one directory, as several processes would have them."""
    made = []

    def make(count=2, origin=None, **options):
        made.extend(
            hc.HybridCache(
                hc.Memory(1000), hc.Lmdb(tmp_path / "cache"), origin, breaker=None, **options
            )
            for _ in range(count)
        )
        return made[-count:] if count > 1 else made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture(params=["memory", "memory and disk"])
def store(request, tmp_path):
    """One cache, with and without a disk."""
    disk = hc.Lmdb(tmp_path / "one") if request.param == "memory and disk" else None
    with hc.HybridCache(hc.Memory(1000), disk, breaker=None) as made:
        yield made


def test_a_change_is_seen_by_the_very_next_get(caches):
    """Put, delete, invalidate, expire and clear of one cache hold for the other at once."""
    here, there = caches()
    here.put("k", 1)
    assert there.get("k") == 1
    here.put("k", 2)
    assert there.get("k") == 2
    there.delete("k")
    assert here.get("k") is None
    here.put("k", 3)
    assert there.get("k") == 3
    here.invalidate("k")
    assert there.get("k") is None
    here.put("k", 4)
    assert there.get("k") == 4
    there.clear()
    assert here.get("k") is None
    here.put(("n", 1), 5)
    assert there.get(("n", 1)) == 5
    here.clear_from(("n",))
    assert there.get(("n", 1)) is None


WAYS = {
    "get": lambda store, key, load: store.get(key) or load(key),
    "lookup": lambda store, key, load: store.lookup(key) or load(key),
    "get_many": lambda store, key, load: store.get_many([key]).get(key) or load(key),
    "get_or_load": lambda store, key, load: store.get_or_load(key, load),
    "peek": lambda store, key, load: store.peek(key) or load(key),
    "entry": lambda store, key, load: load(key) if (e := store.entry(key)) is None else e.value,
    "contains": lambda store, key, load: "old" if key in store else load(key),
    "aio.get": lambda store, key, load: asyncio.run(store.aio.get(key)) or load(key),
    "aio.lookup": lambda store, key, load: asyncio.run(store.aio.lookup(key)) or load(key),
    "aio.get_or_load": lambda store, key, load: asyncio.run(store.aio.get_or_load(key, load)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", ["delete", "tag", "clear"])
def test_whichever_way_it_is_read(caches, way, how):
    """No method returns from memory what another cache has invalidated."""
    here, there = caches()
    here.put("k", "old", tags=["t"])
    assert there.get("k") == "old"
    if how == "delete":
        here.delete("k")
    elif how == "tag":
        here.invalidate(tags=["t"])
    else:
        here.clear()
    assert WAYS[way](there, "k", lambda key: "new") == "new"


def test_caches_in_memory_alone_are_in_step_by_a_name(tmp_path, monkeypatch):
    """Without a disk a name does: changes, tags, dependencies and clears go to all of it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    rows = {"k": 1}
    with (
        hc.HybridCache(hc.Memory(10), origin=rows.get, coherent="app") as here,
        hc.HybridCache(hc.Memory(10), origin=rows.get, coherent="app") as there,
        hc.HybridCache(hc.Memory(10), origin=rows.get, coherent="other") as other,
    ):
        assert here.get("k") == there.get("k") == other.get("k") == 1
        rows["k"] = 2
        here.delete("k")
        assert there.get("k") == 2
        assert other.get("k") == 1
        there.put("k", 3, tags=["t"])
        assert here.get("k") == 2  # values do not travel, the origin is asked
        here.put("page", 1, depends_on=["k"], tags=["t"])
        assert here.get("page") == 1
        there.put("k", 4)
        assert here.get("page") is None
        here.put("page", 2, tags=["t"])
        there.invalidate(tags=["t"])
        assert here.get("page") is None
        here.put(("n", 1), 1)
        there.clear_from(("n",))
        assert here.get(("n", 1)) is None
        here.put("k", 5)
        there.clear()
        assert here.get("k") == 2
    for name in ("", "../x", "a/b", 5):
        with pytest.raises(hc.ConfigurationError, match="coherent"):
            hc.HybridCache(hc.Memory(10), coherent=name)
    with pytest.raises(hc.ConfigurationError, match="leave coherent"):
        hc.HybridCache(hc.Memory(10), disk=object(), coherent="x")


def test_other_keys_stay_in_memory(caches):
    """Of what another cache changes, memory forgets that key alone."""
    here, there = caches()
    for key in range(20):
        here.put(key, key)
    assert [there.get(key) for key in range(20)] == list(range(20))
    here.put(3, "new")
    assert there.get(4) == 4
    assert 4 in there.memory
    assert 3 not in there.memory


def test_tags(store):
    """All that carries a tag is gone at once; the rest stays."""
    for key in range(30):
        store.put(key, key, tags=[f"mod {key % 3}", "all"])
    store.put("untagged", 1)
    store.invalidate(tags=["mod 1"])
    assert [store.get(key) for key in range(6)] == [0, None, 2, 3, None, 5]
    assert store.get("untagged") == 1
    store.put(1, "again", tags=["mod 1"])
    assert store.get(1) == "again"
    assert sorted(store.keys_by_tag("mod 1")) == [1]
    store.invalidate(tags=["all"])
    assert store.get_many(range(30)) == {1: "again"}


def test_tags_elsewhere_and_after_a_restart(caches, tmp_path):
    """A tag covers what others hold in memory, and what is on disk, also later."""
    here, there = caches()
    here.put("k", 1, tags=["t"])
    assert there.get("k") == 1
    there.invalidate(tags=["t"])
    assert here.get("k") is None
    here.put("l", 1, tags=["t"])
    here.put("m", 1, tags=["t", "u"])
    there.invalidate(tags=["u"])
    here.close()
    there.close()
    later = caches(1)
    assert later.get("l") == 1
    assert later.get("m") is None


@pytest.mark.parametrize("hard", [True, False])
def test_soft_and_hard(store, hard):
    """What is invalidated softly is served when the origin fails; hard, it is not."""
    down = False

    def load(key):
        if down:
            raise ConnectionError
        return Loaded("fresh", tags=("t",))

    assert store.get_or_load("k", load) == "fresh"
    store.invalidate(tags=["t"], hard=hard)
    down = True
    if hard:
        with pytest.raises(ConnectionError):
            store.get_or_load("k", load)
    else:
        assert store.get_or_load("k", load) == "fresh"
        assert store.stats().origin.stale_served == 1


def test_expire_keeps_the_stale_copy_and_delete_forgets(caches):
    """An expired entry is loaded anew, in every cache, and served if that fails."""
    answers = iter([1, 2, ConnectionError(), 3])

    def load(key):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    here, there = caches(origin=load)
    assert here.get("k") == there.get("k") == 1
    here.expire("k")
    assert there.get("k") == 2
    assert here.get("k") == 2
    there.expire("k")
    assert here.get("k") == 2  # the origin fails
    assert there.stats().origin.stale_served == 0
    here.delete("k")
    assert there.get("k") == 3


def test_a_soft_clear_allows_stale_and_a_hard_one_does_not(caches):
    """A hard clear never comes back through stale, a soft one may."""
    down = threading.Event()

    def load(key):
        if down.is_set():
            raise ConnectionError
        return "v"

    here, there = caches(origin=load)
    assert here.get("k") == there.get("k") == "v"
    down.set()
    here.clear(soft=True)
    assert here.get("k") == there.get("k") == "v"
    assert here.stats().origin.stale_served == there.stats().origin.stale_served == 1
    there.clear()
    for store in (here, there):
        with pytest.raises(ConnectionError):
            store.get("k")


def test_dependencies(store):
    """A change of a key invalidates what depends on it, directly or not."""
    store.put("user", 1)
    store.put("page", 1, depends_on=["user"])
    store.put("site", 1, depends_on=["page"])
    store.put("other", 1)
    store.put("user", 2)
    assert store.get("page") is None
    assert store.get("site") is None
    assert store.get("other") == 1
    store.put("page", 2, depends_on=["user"])
    store.put("site", 2, depends_on=["page"])
    store.delete("page")
    assert store.get("site") is None
    assert store.get("user") == 2


def test_dependencies_in_a_circle(store):
    """Entries may depend on each other: whichever changes, the other is invalid."""
    store.put("a", 1)
    store.put("b", 1, depends_on=["a"])
    store.put("a", 2, depends_on=["b"])
    assert store.get("b") is None
    store.put("b", 2, depends_on=["a"])
    assert store.get("a") is None
    assert store.get("b") == 2


def test_dependencies_elsewhere_and_by_loaders(caches):
    """A loader names what its value is made of; another process changes that."""
    made = iter(range(10))
    here, there = caches(
        origin=lambda key: Loaded(f"page {next(made)}", depends_on=("user",), tags=("pages",))
    )
    here.put("user", 1)
    assert here.get("page") == there.get("page") == "page 0"
    there.put("user", 2)
    assert here.get("page") == "page 1"
    here.invalidate(tags=["pages"])
    assert there.get("page") == "page 2"


def changes():
    """What may happen in another process while a value is loaded or read from disk."""
    return {
        "put": lambda store: store.put("k", "newer", tags=["t"]),
        "delete": lambda store: store.delete("k"),
        "invalidate": lambda store: store.invalidate("k"),
        "tag": lambda store: store.invalidate(tags=["t"]),
        "dependency": lambda store: store.put("base", 2),
        "clear": lambda store: store.clear(),
        "soft clear": lambda store: store.clear(soft=True),
    }


@pytest.mark.parametrize("change", changes())
@pytest.mark.parametrize("same", [True, False], ids=["here", "elsewhere"])
def test_a_load_does_not_bring_back_what_was_invalidated(caches, change, same):
    """Fault 27: what happens during a load wins over it, in the tiers of all."""
    gate, reached = threading.Event(), threading.Event()

    def load(key):
        if key != "k":
            return None
        if not reached.is_set():
            reached.set()
            assert gate.wait(20)
            return Loaded("old", tags=("t",), depends_on=("base",))
        return Loaded("new", tags=("t",), depends_on=("base",))

    here, there = caches(origin=load)
    here.put("base", 1)
    here.put("k", "first", tags=["t"], depends_on=["base"])
    here.expire("k")
    reader = threading.Thread(target=here.get, args=("k",))
    reader.start()
    assert reached.wait(20)
    changes()[change](here if same else there)
    gate.set()
    reader.join(20)
    expected = "newer" if change == "put" else "new"
    assert there.get("k") == expected
    assert here.get("k") == expected


@pytest.mark.parametrize("change", [name for name in changes() if name != "dependency"])
def test_a_promotion_does_not_bring_back_what_was_invalidated(caches, change):
    """Fault 27: what is read from disk before a change elsewhere is not kept in memory after it."""
    here, there = caches()
    there.put("k", "old", tags=["t"])
    fetch = here._engine.disk.fetch_many

    def slow(keys):
        found = fetch(keys)
        here._engine.disk.fetch_many = fetch
        changes()[change](there)
        return found

    here._engine.disk.fetch_many = slow
    here.get_many(["k"])
    assert here.get("k") == ("newer" if change == "put" else None)


def test_a_load_elsewhere_does_not_write_over_a_newer_value(caches):
    """A process that loaded before another one wrote does not store its older answer on disk."""
    gate, reached = threading.Event(), threading.Event()

    def load(key):
        reached.set()
        assert gate.wait(20)
        return "old"

    here, there = caches(origin=load)
    reader = threading.Thread(target=here.get, args=("k",))
    reader.start()
    assert reached.wait(20)
    there.put("k", "new")
    gate.set()
    reader.join(20)
    there.memory.clear()
    assert there.get("k") == here.get("k") == "new"


def test_an_unannounced_change_is_made_up_for(caches, monkeypatch):
    """Who dies between its commit and the announcement leaves nothing stale for long."""
    here, there = caches()
    here.put("k", 1)
    assert there.get("k") == 1
    monkeypatch.setattr(here._engine.coherence, "announce", lambda number: None)
    here.put("k", 2)
    monkeypatch.undo()
    here.put("other", 1)  # whatever is announced next
    assert there.get("k") == 2


def test_who_was_away_too_long_forgets_everything(caches):
    """A log that does not go back so far means that nothing in memory can be trusted."""
    here, there = caches(retention=Retention(entries=100))
    here.put("k", 1)
    assert there.get("k") == 1
    here.put("k", 2)
    for number in range(200):
        here.put("other", number)
    assert 100 <= len(here.invalidation_log()) < 130
    assert there.get("k") == 2
    assert there.get("other") == 199


def test_barriers_are_bounded(caches, monkeypatch):
    """Beyond a number of tags the older ones share a barrier: more is invalid, never less."""
    monkeypatch.setattr(log, "MOST_BARRIERS", 20)
    here, there = caches(retention=Retention(entries=100))
    here.put("k", 1, tags=["mine"])
    here.invalidate(tags=["first"])
    for number in range(60):
        here.invalidate(tags=[f"tag {number}"])
    here.put("l", 1, tags=["tag 1"])
    assert there.get("l") == here.get("l") == 1
    later = caches(1)
    assert len(later._engine.coherence._barriers) <= 30
    assert later.get("l") == 1
    here.invalidate(tags=["tag 1"])
    assert later.get("l") is None


def test_memory_in_doubt_is_confirmed(store):
    """Other entries with tags are hits again once they have been looked at."""
    store.put("k", 1, tags=["t"])
    store.invalidate(tags=["u"])
    assert store.get("k") == 1
    hits = store.memory.stats().hits
    assert store.get("k") == 1
    assert store.memory.stats().hits == hits + 1


def test_the_log(caches):
    """Each invalidation is there with its scope, cause, node and number."""
    here, there = caches()
    here.put("k", 1)
    there.delete("k")
    here.invalidate("a", tags=["t", "u"], cause="github.push")
    there.clear(soft=True)
    entries = here.invalidation_log()
    assert [(e.scope, e.keys, e.tags, e.hard, e.cause) for e in entries] == [
        ("key", ("k",), (), True, "put"),
        ("key", ("k",), (), True, "delete"),
        ("key", ("a",), (), True, "github.push"),
        ("tags", (), ("t", "u"), True, "github.push"),
        ("all", (), (), False, "clear"),
    ]
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5]
    assert entries[0].node == entries[2].node != entries[1].node
    assert [entry.number for entry in there.invalidation_log(since=3)] == [4, 5]
    assert [entry.number for entry in there.invalidation_log(last=2)] == [4, 5]
    assert [entry.number for entry in there.invalidation_log(since=4, last=2)] == [5]
    assert there.invalidation_log(last=0) == []


def test_bad_input(store):
    """Tags that are none are refused, and nothing is changed."""
    store.put("k", 1, tags=["t"])
    for tags in ("t", [""], [5], ["\0t"]):
        with pytest.raises(hc.ConfigurationError):
            store.invalidate(tags=tags)
        with pytest.raises(hc.ConfigurationError):
            store.put("k", 2, tags=tags)
    with pytest.raises(hc.ConfigurationError, match="up to 256 tags"):
        store.put("k", 2, depends_on=range(300))
    assert store.get("k") == 1


def test_asyncio(caches):
    """The awaited twins do the same."""
    here, there = caches()

    async def act():
        await here.aio.put("k", 1, tags=["t"])
        assert await there.aio.get("k") == 1
        await here.aio.invalidate(tags=["t"])
        assert await there.aio.get("k") is None
        await here.aio.put("k", 2)
        await there.aio.expire("k")
        assert await here.aio.get("k") is None
        await here.aio.put("k", 3)
        await there.aio.clear(soft=True)
        assert await here.aio.get("k") is None

    asyncio.run(act())


def test_what_was_told_and_followed_is_counted(caches):
    """Statistics tell what a cache added to the log, what it followed, and how far it is behind."""
    here, there = caches()
    here.put("k", 1)
    assert there.get("k") == 1
    before = there.stats().coherence
    told = here.stats().coherence.told
    here.put("k", 2)
    here.invalidate(tags=["t"])
    assert here.stats().coherence.told == told + 2
    assert there.stats().coherence.behind == 2
    assert there.get("k") == 2
    seen = there.stats().coherence - before
    assert (seen.followed, seen.behind, seen.missed, seen.barriers) == (2, 0, 0, 1)


def test_a_load_of_another_value_invalidates_what_depends_on_it(store):
    """Whoever loads another value of a key invalidates what was made of it; not an equal one."""
    rows = {"user": 1}
    store.get_or_load("user", rows.get)
    store.put("page", "of 1", depends_on=["user"])
    store.expire("user")
    store.put("page", "of 1", depends_on=["user"])
    store.get_or_load("user", rows.get)
    assert store.get("page") == "of 1"
    rows["user"] = 2
    store.expire("user")
    store.put("page", "of 1", depends_on=["user"])
    assert store.get_or_load("user", rows.get) == 2
    assert store.get("page") is None


def test_a_namespace_clear_invalidates_what_depends_on_its_keys(store):
    """What was made of a key of a namespace goes with it, the rest stays."""
    store.put(("n", "a", 1), 1)
    store.put("page", 1, depends_on=[("n", "a", 1)])
    store.put("other", 1, depends_on=[("m", "a", 1)])
    store.clear_from(("n",))
    assert store.get("page") is None
    assert store.get("other") == 1
    store.put("page", 1, depends_on=[("n", "a", 1)])
    store.clear_from(("n", "b"))
    assert store.get("page") == 1
    store.clear_from(("n", "a"))
    assert store.get("page") is None


def test_entries_of_the_log_are_kept_for_so_long(caches, monkeypatch):
    """Beyond an age they go, a batch at a time; who did not read them forgets everything."""
    now = time.time()
    here, there = caches(retention=Retention(age="1h"))
    here.put("k", 1)
    assert there.get("k") == 1
    for number in range(10):
        here.put("old", number)
    here.put("k", 2)
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    for number in range(1024):
        here.put("new", number)
    assert here.invalidation_log()[0].at > now + 3600
    assert there.get("k") == 2


def test_retention_that_makes_no_sense():
    """Too few entries, or no age, are refused."""
    for options in ({"entries": 5}, {"entries": "x"}, {"entries": True}, {"age": 0}, {"age": "x"}):
        with pytest.raises(hc.ConfigurationError):
            Retention(**options)
