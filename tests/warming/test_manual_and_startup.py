"""Manual warming, and warming after a start."""

from __future__ import annotations

import asyncio
import threading

import pytest

from hybridcore import (
    Cache,
    ClosedError,
    ConfigurationError,
    EntryOptions,
    HybridCache,
    Lmdb,
)
from hybridcore.warming import Budget, Startup, Warmer, read_hot_set, save_hot_set
from tests.warming.conftest import Batches


def test_keys_files_and_functions(world, tmp_path) -> None:
    """Keys are given as such, by a file with one a line, or by a function."""
    file = tmp_path / "keys"
    file.write_text("a\n\nb\n")
    with world.warmer() as warmer:
        assert warmer.warm(["x", "y", "x"]).loaded == 2
        assert warmer.warm(file).loaded == 2
        assert warmer.warm(lambda: ["z", "a"]).fresh == 1
    assert world.origin.asked == ["x", "y", "a", "b", "z"]


def test_prefix(make_world) -> None:
    """What is on disk under keys that begin so comes to memory, without a call."""
    world = make_world(disk=True)
    for key in ("docs/1", "docs/2", "other"):
        world.store.put(key, key)
    world.store.memory.clear()
    with world.warmer() as warmer:
        report = warmer.warm(prefix="docs/", ask=False)
    assert report.promoted == report.warmed == 2
    assert sorted(world.store.memory) == ["docs/1", "docs/2"]
    assert world.origin.asked == []


def test_awaited(make_world) -> None:
    """It can be awaited, with its progress told."""
    world = make_world(Batches())
    told = []

    async def main() -> int:
        with Warmer(world.store, warming_batch_size=10, max_concurrent_warms=2) as warmer:
            report = await warmer.awarm(range(35), progress=lambda *so_far: told.append(so_far))
        return report.loaded

    assert asyncio.run(main()) == 35
    assert told[-1] == (35, 35)
    assert len(world.origin.asked) == 4


def test_what_fails_is_reported(world) -> None:
    """Errors of the origin are in the report, and the rest goes on."""
    world.origin.down = True
    with world.warmer() as warmer:
        report = warmer.warm(["a", "b"])
    assert set(report.failed) == {"a", "b"}
    assert isinstance(report.failed["a"], ConnectionError)
    assert report.keys == 2


def test_rate(world) -> None:
    """No more keys a second than asked for."""
    with world.warmer() as warmer:
        report = warmer.warm(range(11), rate=100)
    assert report.seconds >= 0.1


def test_budgeted(world) -> None:
    """It stops when the budget is spent, if it is to; else it is charged all the same."""
    with world.warmer(budget=Budget(calls=5, overhead=None, clock=world.clock)) as warmer:
        report = warmer.warm(range(10), budgeted=True)
        assert (report.loaded, report.is_complete) == (5, False)
        assert warmer.warm(range(10, 13)).loaded == 3
        assert warmer.stats().budget.calls_left == -3


def test_wrong_use(world) -> None:
    """A string is no list of keys, and something has to be warmed."""
    with world.warmer() as warmer:
        with pytest.raises(ConfigurationError, match="prefix"):
            warmer.warm("docs/")
        with pytest.raises(ConfigurationError, match="keys"):
            warmer.warm()
        with pytest.raises(ConfigurationError, match="disk"):
            warmer.warm(prefix="docs/")
        with pytest.raises(ConfigurationError, match="rate"):
            warmer.warm([], rate=0)
    with pytest.raises(ClosedError):
        warmer.warm(["a"])


def test_hot_set(tmp_path) -> None:
    """The hot set of a process that ended is warm before the next one's first reader."""
    file = tmp_path / "hot"
    asked = []
    for start in range(2):
        store = HybridCache(Cache(100), origin=lambda key: asked.append(key) or key)
        with store, Warmer(store, startup=Startup(hot_set=file, required=True)) as warmer:
            assert warmer.wait_until_ready(10)
            if start == 0:
                for key in ("a", ("b", 2), 3):
                    store.get(key)
            else:
                assert store.memory.stats().entries == 3
                assert {store.get("a"), store.get(3)} == {"a", 3}
                assert store.memory.stats().misses == 0
                assert warmer.stats().strategies["startup"].warmed == 3
    assert len(asked) == 6


def test_hot_set_is_saved_now_and_then(world, tmp_path) -> None:
    """A process that is killed leaves the hot set of minutes before."""
    file = tmp_path / "hot"
    warmer = world.warmer(startup=Startup(hot_set=file, save_every=60))
    world.store.get("k")
    world.pass_time(warmer, 70)
    assert read_hot_set(file) == ["k"]
    warmer.close()


def test_a_damaged_hot_set(world, tmp_path) -> None:
    """A file that is none is told of and does not keep the process from starting."""
    file = tmp_path / "hot"
    for content in (b"", b"\xff\x00", b"\x81\xa1a\x01", b"text"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="no hot set"):
            read_hot_set(file)
        startup = Startup(hot_set=file, required=True)
        with world.warmer(startup=startup) as warmer:
            assert warmer.is_ready
    assert read_hot_set(tmp_path / "none") == []
    assert save_hot_set(file, ["a", object()]) == 1
    assert read_hot_set(file) == ["a"]


def test_from_disk_hottest_first(make_world) -> None:
    """What was read most from disk is promoted first, and nothing is loaded."""
    world = make_world(disk=True, ttl=None)
    for key in range(100):
        world.store.put(key, key)
    for _ in range(5):
        for key in (7, 42):
            world.store.memory.clear()
            world.store.get(key)
    world.store.memory.clear()
    with world.warmer(startup=Startup(count=2)) as warmer:
        assert warmer.is_ready
    assert sorted(world.store.memory) == [7, 42]
    assert world.origin.asked == []


def test_from_a_peer(make_world, tmp_path) -> None:
    """Fresh entries of another directory are copied, with what they have left of their ttl."""
    world = make_world()
    peer = tmp_path / "peer"
    with Lmdb(peer, max_bytes="8MiB", clock=world.clock.in_nanoseconds) as disk:
        disk.put("fresh", 1, ttl=1e9)
        disk.put("old", 2, ttl=0.001)
    world.clock.now += 1
    startup = Startup(peer=peer, peer_bytes="8MiB")
    with world.warmer(startup=startup):
        assert world.store.peek("fresh") == 1
        assert startup.report["peer"].loaded == 1
    assert world.origin.asked == []


def test_from_a_trace(world, tmp_path) -> None:
    """The most frequent keys of a recorded trace are loaded first."""
    trace = tmp_path / "trace"
    trace.write_text("1\n2\n2\n3\n3\n3\n")
    with world.warmer(startup=Startup(trace=trace, parse=int, count=2)):
        assert world.origin.asked == [3, 2]


def test_a_source_that_is_not_there(world, tmp_path) -> None:
    """A peer or trace that does not exist is passed over."""
    startup = Startup(peer=tmp_path / "no", trace=tmp_path / "no", required=True)
    with world.warmer(startup=startup) as warmer:
        assert warmer.is_ready
        assert "peer" not in startup.report


def test_holds_readiness() -> None:
    """With required it is not ready before it is done."""
    go = threading.Event()

    def load(key: str) -> str:
        assert go.wait(10)
        return key

    store = HybridCache(Cache(10), origin=load, defaults=EntryOptions(ttl=100))
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "hot"
        save_hot_set(file, ["k"])
        with store, Warmer(store, startup=Startup(hot_set=file, required=True)) as warmer:
            assert not warmer.is_ready
            assert not warmer.wait_until_ready(0.01)
            go.set()
            assert warmer.wait_until_ready(10)
            assert warmer.is_ready
