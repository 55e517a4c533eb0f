from __future__ import annotations

import subprocess
import sys
from collections.abc import MutableMapping

import lmdb
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hybridcore import (
    ClosedError,
    Codecs,
    ConfigurationError,
    DiskError,
    EncodeError,
    Lmdb,
    ValueTooLargeError,
)


def test_it_is_a_mutable_mapping(disk):
    """All that a dict does, apart from the order and from len counting expired entries."""
    assert isinstance(disk, MutableMapping)
    disk["a"] = 1
    disk.update({"b": 2}, c=3)
    disk.update([("d", 4)])
    assert (disk["a"], disk.get("b"), disk.get("x"), disk.get("x", 0)) == (1, 2, None, 0)
    assert "a" in disk
    assert "x" not in disk
    assert sorted(disk) == sorted(disk.keys()) == ["a", "b", "c", "d"]
    assert sorted(disk.items()) == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    assert sorted(disk.values()) == [1, 2, 3, 4]
    assert len(disk) == len(disk.items()) == 4
    assert disk.setdefault("a", 9) == 1
    assert disk.setdefault("e", 5) == 5
    del disk["e"]
    with pytest.raises(KeyError, match="e"):
        del disk["e"]
    with pytest.raises(KeyError, match="e"):
        disk["e"]
    assert disk.pop("d") == 4
    assert disk.pop("d", None) is None
    with pytest.raises(KeyError, match="d"):
        disk.pop("d")
    key, _ = disk.popitem()
    assert key not in disk
    disk.clear()
    assert len(disk) == 0
    assert disk == disk
    assert disk != {}


def test_none_is_a_value(disk):
    """A stored None is found, not mistaken for a miss."""
    disk["key"] = None
    assert disk["key"] is None
    assert disk.get("key", default="default") is None
    assert "key" in disk
    assert disk.get_many(["key", "other"]) == {"key": None}
    assert disk.pop("key", "default") is None


def test_batches(disk):
    """Many keys are read, written and deleted at once; mappings and pairs are both taken."""
    disk.put_many({"a": 1, "b": 2})
    disk.put_many((str(n), n) for n in range(2000))
    disk.put_many({})
    assert disk.get_many(["a", "x", "1999"]) == {"a": 1, "1999": 1999}
    assert {key: record.value for key, record in disk.fetch_many(["b", "x"]).items()} == {"b": 2}
    assert disk.delete_many(["a", "x", "b", "a"]) == 2
    assert disk.delete_many([]) == 0
    assert len(disk) == len(list(disk)) == 2000


def test_an_entry_past_its_ttl(disk, clock):
    """Fresh: a hit. Past ttl, within stale: a miss that fetch still returns. Past both: gone."""
    disk.put("key", "value", ttl=10, stale=20)
    clock.advance(9.999)
    assert disk["key"] == "value"
    assert disk.fetch("key").fresh
    clock.advance(0.001)
    assert disk.get("key") is None
    assert "key" not in disk
    assert list(disk) == []
    record = disk.fetch("key")
    assert (record.value, record.fresh, record.ttl_left) == ("value", False, 0.0)
    clock.advance(19.9)
    assert not disk.fetch_many(["key"])["key"].fresh
    clock.advance(0.1)
    assert disk.fetch("key") is None
    stats = disk.stats()
    assert (stats.hits, stats.stale_hits, stats.misses, stats.expired) == (2, 2, 2, 2)
    assert (stats.requests, stats.hit_ratio) == (6, 2 / 6)


@pytest.mark.parametrize("ttl", [0, "0s", 0.0])
def test_no_ttl_at_all_is_not_for_ever(open_disk, ttl):
    """ttl=0 expires at once, even when the clock stands at zero."""
    now = [0]
    disk = open_disk(clock=lambda: now[0])
    disk.put("key", 1, ttl=ttl)
    now[0] = 1
    assert disk.get("key") is None


@pytest.mark.parametrize("ttl", [None, float("inf"), 1e300, "52000w"])
def test_for_ever(disk, clock, ttl):
    """None, infinity and what leads past the year 2262 never expire."""
    disk.put("key", 1, ttl=ttl, stale="1d")
    clock.advance(200 * 365 * 86400)
    assert disk["key"] == 1
    assert disk.fetch("key").ttl_left is None


def test_a_clock_behind_gives_no_longer_life(open_disk, clock):
    """A process whose clock is a day behind sees at most the whole ttl left (Fault 10)."""
    disk = open_disk()
    disk.put("key", 1, ttl=60)
    behind = open_disk(clock=lambda: clock.now - 86400 * 10**9)
    assert behind.fetch("key").ttl_left == pytest.approx(60)
    ahead = open_disk(clock=lambda: clock.now + 86400 * 10**9)
    assert ahead.fetch("key") is None


@pytest.mark.parametrize(
    "value", [b"", b"x", b"x" * (1 << 20), "", "tä\ud800", 0, [], {"a": [None]}]
)
def test_values_come_back(disk, value):
    """Empty, small and large values come back equal and of their type."""
    disk["key"] = value
    for found in (disk["key"], disk.fetch("key").value, disk.get_many(["key"])["key"]):
        assert found == value
        assert type(found) is type(value)


def test_arrays_come_back_aligned(disk):
    """An array is written from its own memory and is the caller's own when read."""
    np = pytest.importorskip("numpy")
    array = np.arange(100_000, dtype=np.float64).reshape(100, 1000)
    disk["array"] = array
    found = disk["array"]
    assert (found == array).all()
    assert found.flags.aligned
    found[0, 0] = -1
    assert disk["array"][0, 0] == 0


def test_an_error_changes_nothing(disk):
    """A value that cannot be stored leaves the old one, alone and in a batch (Fault 18)."""
    disk["key"] = "old"
    before = disk.fetch("key").version
    for attempt in (
        lambda: disk.put("key", object()),
        lambda: disk.put_many([("key", "new"), ("other", object())]),
        lambda: disk.update({"key": "new", "other": object()}),
    ):
        with pytest.raises(EncodeError):
            attempt()
    with pytest.raises(ConfigurationError):
        disk.put("key", "new", ttl="soon")
    with pytest.raises(ConfigurationError):
        disk.put("key", "new", ttl=1, stale=-1)
    assert disk["key"] == "old"
    assert disk.fetch("key").version == before
    assert len(disk) == 1


def test_too_large_for_the_tier(open_disk):
    """A value larger than max_bytes is refused with both numbers; so is such a batch."""
    disk = open_disk(max_bytes="1MiB")
    disk["key"] = "old"
    with pytest.raises(ValueTooLargeError, match=r"takes 20000\d\d bytes.*max_bytes=1048576"):
        disk["key"] = b"x" * 2_000_000
    with pytest.raises(ValueTooLargeError, match=r"put_many.*max_bytes=1048576"):
        disk.put_many(dict.fromkeys(range(12), b"x" * 100000))
    assert dict(disk) == {"key": "old"}
    disk["large"] = b"x" * 1_000_000
    assert len(disk["large"]) == 1_000_000


@pytest.mark.parametrize("size", ["1KiB", 0, -1, "much", None])
def test_a_bound_that_makes_no_sense(tmp_path, size):
    """The error comes before anything is made."""
    with pytest.raises(ConfigurationError):
        Lmdb(tmp_path / "cache", max_bytes=size)
    assert not (tmp_path / "cache").exists()


def test_closed_is_closed(open_disk):
    """close is idempotent; every use afterwards is a ClosedError, and reopening works."""
    disk = open_disk()
    disk["key"] = 1
    with disk as same:
        assert same is disk
    disk.close()
    for use in (
        lambda: disk.get("key"),
        lambda: disk["key"],
        lambda: "key" in disk,
        lambda: disk.get_many(["key"]),
        lambda: disk.fetch("key"),
        lambda: disk.fetch_many(["key"]),
        lambda: disk.put("key", 1),
        lambda: disk.put_many({"key": 1}),
        lambda: disk.delete("key"),
        lambda: disk.pop("key"),
        lambda: disk.clear(),
        lambda: len(disk),
        lambda: list(disk),
        lambda: list(disk.items()),
        lambda: disk.stats(),
        lambda: disk.sync(),
    ):
        with pytest.raises(ClosedError):
            use()
    assert "closed" in repr(disk)
    assert open_disk()["key"] == 1


def test_two_openings_share_one_environment(open_disk):
    """Opening a directory twice shares LMDB, each with its own codecs, clock and counters."""
    one = open_disk()
    other = open_disk()
    one["key"] = 1
    assert other["key"] == 1
    one.close()
    assert other["key"] == 1
    assert (other.stats().hits, other.stats().puts) == (2, 0)


def test_dropping_it_closes_it(tmp_path):
    """A tier that nobody holds any more gives its directory free."""
    disk = Lmdb(tmp_path / "cache")
    disk["key"] = 1
    environment = disk._environment
    del disk
    assert environment.users == 0
    with Lmdb(tmp_path / "cache") as again:
        assert again._environment is not environment
        assert again["key"] == 1


def test_iterating_while_writing(disk):
    """Iteration pins nothing and neither repeats nor breaks when entries come and go."""
    disk.put_many({n: n for n in range(3000)})
    seen = []
    for key in disk:
        seen.append(key)
        disk.delete(key)
        disk["new"] = key
        assert disk._environment.pinned_by(16) is None
        if len(seen) == 1500:
            break
    assert len(set(seen)) == 1500
    assert len([pair for pair in disk.items() if pair[0] != "new"]) == 1500


def test_its_repr(disk, tmp_path):
    """It names the directory and the bound."""
    assert repr(disk) == f"Lmdb({str(tmp_path / 'cache')!r}, max_bytes=8388608)"


def test_importing_loads_nothing_heavy():
    """lmdb, xxhash and msgspec are loaded when a tier is opened, not before."""
    code = (
        "import sys, hybridcore.disk;"
        "print({'lmdb', 'xxhash', 'msgspec', 'numpy', 'asyncio'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


class AgainstADict(RuleBasedStateMachine):
    """Whatever is done to it, the tier holds what a dict would."""

    keys = st.sampled_from([0, 1, "a", "b", b"a", ("a", 1), None, "long" * 200])
    values = st.sampled_from([0, "x", b"y" * 3000, [1, 2], None])

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.directory = tempfile.TemporaryDirectory()
        self.disk = Lmdb(self.directory.name + "/cache", codecs=Codecs())
        self.model = {}

    def teardown(self):
        self.disk.close()
        self.directory.cleanup()

    @rule(key=keys, value=values)
    def put(self, key, value):
        self.disk[key] = self.model[key] = value

    @rule(items=st.dictionaries(keys, values))
    def put_many(self, items):
        self.disk.put_many(items)
        self.model.update(items)

    @rule(key=keys)
    def delete(self, key):
        assert self.disk.delete(key) == (self.model.pop(key, self) is not self)

    @rule(key=keys)
    def pop(self, key):
        assert self.disk.pop(key, "gone") == self.model.pop(key, "gone")

    @rule(wanted=st.lists(keys))
    def get_many(self, wanted):
        assert self.disk.get_many(wanted) == {k: self.model[k] for k in wanted if k in self.model}

    @rule()
    def clear(self):
        self.disk.clear()
        self.model.clear()

    @rule()
    def reopen(self):
        self.disk.close()
        self.disk = Lmdb(self.directory.name + "/cache")

    @invariant()
    def same(self):
        assert dict(self.disk.items()) == self.model
        assert len(self.disk) == len(self.model)
        assert self.disk.stats().damaged == 0
        env = self.disk._environment
        with env.reading() as txn:
            assert txn.stat(env.order)["entries"] == len(self.model)


TestAgainstADict = AgainstADict.TestCase
TestAgainstADict.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)


def test_closing_on_a_failing_disk(open_disk):
    """A sync that fails is reported as DiskError, and the tier is closed all the same."""
    disk = open_disk()
    disk["key"] = 1
    env = disk._environment

    class Failing:
        def __getattr__(self, name):
            return getattr(real, name)

        def sync(self, force):
            raise lmdb.DiskError("no space")

    real, env._env = env._env, Failing()
    with pytest.raises(DiskError, match="no space"):
        disk.close()
    disk.close()
    assert open_disk()["key"] == 1
