from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
from random import Random

import pytest

from hybridcore import DiskError, Lmdb
from hybridcore._native.marks import place_of
from hybridcore.disk.keys import encode_key, lmdb_key
from hybridcore.disk.ledger import Ledger


def test_the_bound_is_kept(open_disk):
    """Used space never exceeds max_bytes after a put, and hardly falls below."""
    disk = open_disk(max_bytes="1MiB")
    for number in range(3000):
        disk[number] = b"x" * 1000
        if number % 50 == 0:
            assert disk.stats().used_bytes <= disk.max_bytes
    stats = disk.stats()
    assert stats.evictions == 3000 - len(list(disk))
    assert stats.evicted_bytes > 1000 * stats.evictions
    assert stats.used_bytes > 0.9 * disk.max_bytes
    assert stats.live_bytes < stats.used_bytes
    assert stats.file_bytes <= 1.25 * disk.max_bytes + (1 << 20)


@pytest.mark.parametrize("seed", range(3))
def test_what_a_writer_knows_without_looking_is_true(open_disk, seed):
    """Entries are counted exactly and never more space is used, whoever else writes and deletes."""
    disks = [open_disk(max_bytes="1MiB"), open_disk(max_bytes="1MiB")]
    draw = Random(seed)
    for step in range(1500):
        disk = disks[draw.random() < 0.1]
        key = draw.randrange(300)
        kind = draw.random()
        if kind < 0.8:
            size = draw.choice([10, 100, 1000, 1900, 2100, 5000, 50_000])
            disk.put(str(key) * draw.choice([1, 100]), bytes(size), ttl=draw.choice([None, 5]))
        elif kind < 0.9:
            disk.put_many(((number, bytes(100)) for number in range(key, key + 50)), ttl=9)
        elif kind < 0.98:
            disk.delete_many([str(number) for number in range(key, key + 20)])
        elif draw.random() < 0.1:
            disk.clear()
        known = disk._writer._known
        with disk._environment.reading() as txn:
            ledger = Ledger(disk._environment, txn)
            assert ledger.used_bytes() <= disk.max_bytes
            if known is not None and known.tally == ledger.tally:
                assert known.entries == ledger.entries, step
                assert known.most_used >= ledger.used_bytes(), step


def test_rewriting_an_entry_makes_it_young(open_disk):
    """The order is that of the last write."""
    disk = open_disk(max_bytes="1MiB")
    disk["kept"] = 0
    for number in range(3000):
        disk[number] = b"x" * 1000
        if number % 100 == 0:
            disk["kept"] = number
    assert disk["kept"] == 2900


def listed(disk, key):
    """What the order of hashes has about a key."""
    name = lmdb_key(encode_key(key))
    env = disk._environment
    with env.reading() as txn:
        found = txn.get(place_of(name), None, env.order)
        return None if found is None else bytes(found)


def test_the_order_changes_only_when_it_has_to(open_disk):
    """Where there is room an overwrite leaves the order alone, unless traits or mark demand it."""
    disk = open_disk()
    disk.put_many((n, b"x" * 100) for n in range(100))
    disk["key"] = b"x" * 100
    before = listed(disk, "key")
    disk["key"] = b"y" * 100
    assert listed(disk, "key") == before
    disk["key"] = b"y" * 101
    assert listed(disk, "key") == before
    disk["key"] = b"y" * 400
    larger = listed(disk, "key")
    assert larger[0] > before[0]
    disk.put("key", b"y" * 400, cost=8)
    dearer = listed(disk, "key")
    assert dearer[1] == larger[1] + 24
    disk.put("key", b"y" * 400, cost=8, importance=2)
    more_important = listed(disk, "key")
    assert more_important[2] == dearer[2] + 8
    disk.put("key", b"z" * 400, cost=8, importance=2, ttl=60)
    assert listed(disk, "key") == more_important
    disk.close()
    (disk.directory / "marks").unlink()
    again = open_disk()
    again.put("key", b"z" * 400, cost=8, importance=2)
    assert listed(again, "key") != more_important


def test_what_was_just_rewritten_stays_when_room_is_made(open_disk):
    """An entry whose place in the order is old is not evicted by the write that renews it."""
    disk = open_disk(max_bytes="256KiB")
    for turn in range(40):
        for number in range(60):
            disk[number] = bytes([turn]) * 2500
            assert disk.get(number) == bytes([turn]) * 2500
            assert disk.stats().used_bytes <= disk.max_bytes


def test_expired_entries_are_counted_apart(open_disk, clock):
    """Evicting what had expired anyway is no eviction of a live entry."""
    disk = open_disk(max_bytes="1MiB")
    disk.put_many(((n, b"x" * 1000) for n in range(400)), ttl=1)
    clock.advance(2)
    disk.put_many((n, b"x" * 1000) for n in range(400, 700))
    stats = disk.stats()
    assert stats.evicted_expired > 0
    assert stats.evictions == 0
    assert len(disk.get_many(range(400, 700))) == 300


@pytest.mark.parametrize("size", [100, 5_000, 300_000, 900_000])
def test_any_size_fits_again_and_again(open_disk, size):
    """Values from tiny to nearly max_bytes replace each other; the last one is always there."""
    disk = open_disk(max_bytes="1MiB")
    for number in range(60):
        disk[number] = bytes([number]) * size
        assert disk[number] == bytes([number]) * size
    assert disk.stats().used_bytes <= disk.max_bytes


def test_a_large_value_after_many_small_ones(open_disk):
    """Fragmented space is made whole for a large value."""
    disk = open_disk(max_bytes="1MiB")
    disk._environment._map_size = 0
    disk.put_many((n, b"x" * 500) for n in range(1200))
    for step in (3, 2):
        disk.delete_many(range(0, 1200, step))
    disk["large"] = b"y" * 900_000
    assert disk["large"] == b"y" * 900_000


def test_records_that_lost_their_place_are_evicted_too(open_disk):
    """Damage to the order of writes does not make entries immortal."""
    disk = open_disk(max_bytes="1MiB")
    disk.put_many((("old", n), b"x" * 1000) for n in range(500))
    env = disk._environment
    with env._env.begin(write=True) as txn:
        txn.drop(env.order, delete=False)
    disk.close()
    smaller = open_disk(max_bytes="256KiB")
    for number in range(10):
        smaller["new", number] = b"x" * 1000
    assert smaller.stats().used_bytes <= smaller.max_bytes
    assert smaller["new", 9] == b"x" * 1000


def test_an_old_place_does_not_evict_a_new_write(open_disk):
    """An entry of the order that names an older write of a key leaves the newer one alone."""
    disk = open_disk(max_bytes="1MiB")
    disk.put_many((n, b"x" * 1000) for n in range(500))
    disk["young"] = 1
    env = disk._environment
    with env._env.begin(write=True) as txn:
        txn.put((1).to_bytes(8, "big"), b"\x30young", db=env.order)
    disk.put_many((("new", n), b"x" * 1000) for n in range(200))
    assert 1 <= disk.stats().evictions <= 400
    assert disk["young"] == 1


@pytest.fixture
def tight(open_disk):
    """A tier whose map is hardly larger than its bound."""
    disk = open_disk(max_bytes="1MiB")
    disk.put_many((n, b"x" * 1000) for n in range(600))
    env = disk._environment
    env._map_size = 1 << 20
    env._resize(1 << 20)
    return disk


def test_a_full_map_evicts_and_goes_on(tight):
    """Where LMDB has no page left, room is made and the write done (Fault 5)."""
    for number in range(2000):
        tight[number] = b"y" * 1000
        assert tight[number] == b"y" * 1000
    tight.put_many({("many", n): b"z" * 1000 for n in range(300)})
    assert len(tight.get_many([("many", n) for n in range(300)])) == 300
    assert tight.stats().damaged == 0


HOLD = """
    import lmdb, sys
    env = lmdb.open(sys.argv[1], max_dbs=4, create=False)
    txn = env.begin()
    print("reading", flush=True)
    sys.stdin.read()
"""


def test_a_reader_that_never_ends(tight):
    """A stopped reader bounds neither file nor time: writes fail and name it, deletes and
    reads work, and all is well once it is gone (Faults 5 and 11)."""
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(tight.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "reading\n"

        def fill():
            for number in range(5000):
                tight[number] = b"y" * 1000

        with pytest.raises(DiskError, match=f"process {holder.pid} has been reading"):
            fill()
        left = dict(tight.items())
        with pytest.raises(DiskError, match="process"):
            tight.put_many(dict.fromkeys(range(200), b"z" * 1000))
        assert dict(tight.items()) == left
        assert tight.delete_many(list(left)[:5]) == 5
        assert tight.stats().file_bytes <= 3 << 20
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()
    tight["after"] = 1
    assert tight["after"] == 1


FULL_DISK = """
    import resource, signal, sys
    from hybridcore import DiskError, Lmdb
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    disk = Lmdb(sys.argv[1], max_bytes="64MiB")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    stored = 0
    try:
        while True:
            disk[stored] = b"x" * 1000
            stored += 1
    except DiskError as error:
        print(type(error).__name__, stored > 100)
    print(disk[0] == b"x" * 1000, disk.get_many(range(stored)).keys() == set(range(stored)))
    try:
        print(disk.delete(0), disk.stats().damaged)
    except DiskError:
        print("no delete", disk.stats().damaged)
    disk.close()
"""


def test_a_disk_that_takes_no_more(tmp_path):
    """A disk that refuses pages is a DiskError; what was acknowledged is there (Fault 5)."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(tmp_path / "cache")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["DiskError True", "True True"]
    assert lines[2] in ("True 0", "no delete 0")
    with Lmdb(tmp_path / "cache") as disk:
        disk["after"] = 1
        assert disk["after"] == 1
        assert disk.stats().damaged == 0


GROWER = """
    import sys
    from hybridcore import Lmdb
    with Lmdb(sys.argv[1], max_bytes="256MiB") as disk:
        for number in range(60):
            disk["large", number] = b"y" * 1_000_000
"""


@pytest.mark.parametrize(
    "use",
    [
        lambda disk: disk["key"],
        lambda disk: disk.get_many(["key"]),
        lambda disk: len(disk),
        lambda disk: list(disk),
        lambda disk: disk.put("key", 2),
        lambda disk: disk.delete("key"),
    ],
)
def test_another_process_makes_the_map_larger(open_disk, use):
    """Reads, batches and writes adopt a map that another process has grown."""
    disk = open_disk(max_bytes="4MiB")
    disk["key"] = "value"
    subprocess.run([sys.executable, "-c", textwrap.dedent(GROWER), str(disk.directory)], check=True)
    env = disk._environment
    file_bytes = (disk.directory / "data.mdb").stat().st_size
    assert env._env.info()["map_size"] < 50_000_000 < file_bytes
    use(disk)
    assert env._env.info()["map_size"] > 50_000_000


def test_a_short_tail_of_free_pages_is_no_damage(open_disk):
    """A file that lacks only pages nobody uses is opened."""
    disk = open_disk()
    disk.put_many((n, b"x" * 1000) for n in range(1000))
    disk.delete_many(range(1000))
    for number in range(5):
        disk["key"] = b"x" * 100 * number
    disk.close()
    file = disk.directory / "data.mdb"
    os.truncate(file, file.stat().st_size - 4096 * 20)
    again = open_disk()
    assert again["key"] == b"x" * 400
    again.put_many((n, b"y" * 1000) for n in range(1000))
    assert len(again.get_many(range(1000))) == 1000


@pytest.mark.slow
@pytest.mark.parametrize("readers", [False, True])
def test_churn_never_outgrows_the_file(open_disk, readers):
    """100 000 writes, reads and deletes of all sizes, three times max_bytes live in turn, and the
    file keeps to a quarter more than max_bytes and 16 MiB; what is read is what was written."""
    rng = random.Random(5)
    disk = open_disk(max_bytes="4MiB", sweep=None)
    allowed = disk.max_bytes * 5 // 4 + (16 << 20)
    sizes = {}
    for step in range(100_000):
        key = int(20_000 * rng.random() ** 2)
        size = min(int(rng.lognormvariate(6, 1.2)), 200_000)
        action = rng.random()
        if action < 0.5:
            disk[key] = bytes([key % 251]) * size
            sizes[key] = size
        elif action < 0.9:
            value = disk.get(key)
            if value is not None:
                assert value == bytes([key % 251]) * sizes[key]
        elif action < 0.95:
            disk.delete(key)
        elif readers:
            next(iter(disk.items()), None)
        if step % 500 == 0:
            stats = disk.stats()
            assert stats.used_bytes <= disk.max_bytes
            assert stats.file_bytes <= allowed
    stats = disk.stats()
    assert stats.evicted_bytes > 3 * disk.max_bytes
    assert stats.damaged == 0
    assert disk.verify() == []
    with disk._environment.reading() as txn, txn.cursor(disk._environment.data) as cursor:
        assert stats.live_bytes == sum(len(record) for _, record in cursor)
        assert stats.entries == txn.stat(disk._environment.order)["entries"]
