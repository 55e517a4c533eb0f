"""Processes of a host that miss the same key: one loads, the others find it on disk."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time

import pytest

import hybridcore as hc
from tests.hybrid.conftest import Source, wait_until

WORKER = """
    import sys, time
    import hybridcore as hc

    def load(key):
        with open(sys.argv[2], "a") as log:
            log.write(key + "\\n")
        time.sleep(2)
        return key * 2

    with hc.HybridCache(hc.Memory(10), hc.Lmdb(sys.argv[1]), load) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        assert store.get("ab") == "abab"
"""


def test_of_several_processes_one_loads(tmp_path):
    """All of them get the value."""
    log = tmp_path / "log"
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WORKER), str(tmp_path / "cache"), str(log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
        wait_until(log.exists)  # two that ask at the same instant may both load
    for worker in workers:
        assert worker.wait(30) == 0
        worker.stdin.close()
        worker.stdout.close()
    assert log.read_text() == "ab\n"


@pytest.fixture
def two_stores(tmp_path):
    """Two caches on one directory, as two processes would have them."""
    stores = []

    def make(*sources, **options):
        for source in sources:
            disk = hc.Lmdb(tmp_path / "shared")
            stores.append(hc.HybridCache(hc.Memory(10), disk, source, **options))
        return stores

    yield make
    for store in stores:
        store.close()


def test_who_waits_finds_it_on_disk(drive, two_stores):
    """Its origin is not asked."""
    one, other = Source({"k": 1}), Source({"k": 2})
    go = threading.Event()
    one.before_load = lambda key: go.wait(20)
    first, second = two_stores(one, other)
    pending = drive.start("get", first, "k")
    wait_until(lambda: one.asked)
    late = drive.start("get", second, "k")
    time.sleep(0.05)
    assert not late.done()
    go.set()
    assert pending.result(20) == late.result(20) == 1
    assert other.asked == []
    assert second.stats().origin.loaded_elsewhere == 1


def test_a_failed_load_frees_the_others(drive, two_stores):
    """They try themselves, at once."""
    one, other = Source({"k": OSError("down")}), Source({"k": 2})
    go = threading.Event()
    one.before_load = lambda key: go.wait(20)
    first, second = two_stores(one, other)
    pending = drive.start("get", first, "k")
    wait_until(lambda: one.asked)
    late = drive.start("get", second, "k")
    go.set()
    with pytest.raises(OSError, match="down"):
        pending.result(20)
    assert late.result(5) == 2


def test_a_dead_leader_is_not_waited_for_for_ever(drive, two_stores):
    """Its lease ends."""
    source = Source({"k": 2})
    _, second = two_stores(Source(), source, defaults=hc.EntryOptions(lease=0.2))
    owner = hc.Lmdb(second._engine.disk.directory)
    assert owner.lease("k", 0.2) == 0
    started = time.monotonic()
    assert drive.get(second, "k") == 2
    assert 0.1 < time.monotonic() - started < 5
    owner.close()


def test_without_a_lease_each_loads(drive, two_stores):
    """None: nobody waits for another process."""
    source = Source({"k": 2})
    _, second = two_stores(Source(), source, defaults=hc.EntryOptions(lease=None))
    with hc.Lmdb(second._engine.disk.directory) as owner:
        assert owner.lease("k", 100) == 0
        assert drive.get(second, "k") == 2


def test_leases_of_a_directory(tmp_path):
    """One owner at a time; released, expired and foreign ones are free."""
    now = [10**18]
    with (
        hc.Lmdb(tmp_path / "cache", clock=lambda: now[0]) as one,
        hc.Lmdb(tmp_path / "cache", clock=lambda: now[0]) as two,
    ):
        assert one.lease("k", 10) == 0
        assert one.lease("k", 10) == 0
        assert two.lease("k", 10) != 0
        two.release("k")
        assert two.lease("k", 10) != 0
        one.release("k")
        assert two.lease("k", 10) == 0
        now[0] += 11 * 10**9
        assert one.lease("k", 10) == 0


def test_what_is_not_kept_on_disk_is_not_loaded_one_after_the_other(two_stores, tmp_path):
    """Whoever has waited for one leader in vain loads at once."""
    sources = [Source({"k": n}) for n in range(4)]
    go = threading.Event()
    for source in sources:
        source.before_load = lambda key: go.wait(20)
    stores = []
    for source in sources:
        disk = hc.Lmdb(tmp_path / "shared", admission=hc.Admission(max_size=1, reject_first=False))
        stores.append(hc.HybridCache(hc.Memory(10), disk, source))
    threads = [threading.Thread(target=store.get, args=("k",)) for store in stores]
    for thread in threads:
        thread.start()
    wait_until(lambda: any(source.asked for source in sources))
    go.set()
    for thread in threads:
        thread.join(20)
    assert all(source.asked == ["k"] for source in sources)
    for store in stores:
        store.close()


def test_a_batch_leaves_to_others_what_they_load(drive, two_stores):
    """Its own keys it asks for at once; those that another process loads it finds on disk."""
    one, other = Source({"a": 1, "b": 1}), Source({"a": 2, "b": 2, "c": 2})
    go = threading.Event()
    one.before_load = lambda key: go.wait(20)
    first, second = two_stores(one, other)
    pending = drive.start("get_many", first, ["a", "b"])
    wait_until(lambda: one.asked)
    late = drive.start("get_many", second, ["a", "b", "c"])
    wait_until(lambda: other.asked)
    go.set()
    assert pending.result(20) == {"a": 1, "b": 1}
    assert late.result(20) == {"a": 1, "b": 1, "c": 2}
    assert [ask[0] if isinstance(ask, tuple) else ask for ask in other.asked] == ["c"]
    assert second.stats().origin.loaded_elsewhere == 2


def test_a_batch_loads_what_others_failed_to(drive, two_stores):
    """The lease of a load that failed is free at once, and the batch takes it."""
    one, other = Source({"a": OSError("down")}), Source({"a": 2, "b": 2})
    go = threading.Event()
    one.before_load = lambda key: go.wait(20)
    first, second = two_stores(one, other)
    pending = drive.start("get", first, "a")
    wait_until(lambda: one.asked)
    late = drive.start("get_many", second, ["a", "b"])
    wait_until(lambda: other.asked)
    go.set()
    with pytest.raises(OSError, match="down"):
        pending.result(20)
    assert late.result(20) == {"a": 2, "b": 2}
