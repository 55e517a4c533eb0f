"""What the disk tier evicts: by weights, by marks of reads, and what it sweeps."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import time

import pytest

from hybridcore import ConfigurationError, Lmdb, Weights
from hybridcore._native.marks import HEAD_SIZE, Marks, traits_of
from hybridcore.disk.keys import encode_key, lmdb_key
from hybridcore.disk.marks import open_marks

VALUE = b"x" * 1000


def fill(disk, keys, **options):
    disk.put_many(((key, VALUE) for key in keys), **options)


def kept(disk, keys):
    """The share of the keys that are still there."""
    keys = list(keys)
    return sum(key in disk for key in keys) / len(keys)


def test_what_is_read_stays(open_disk):
    """Entries that are read outlive those that are not, however long ago they were written."""
    disk = open_disk(max_bytes="1MiB")
    for number in range(4000):
        disk["new", number] = VALUE
        disk.setdefault(number % 100, VALUE)
    written = {key: disk.fetch(key).version for key in range(100)}
    for number in range(4000, 5000):
        disk["new", number] = VALUE
        disk.setdefault(number % 100, VALUE)
    same = [key for key in range(100) if disk.fetch(key).version == written[key]]
    assert len(same) > 90
    assert kept(disk, (("new", number) for number in range(4000, 4500))) < 0.6


def test_recency_alone_is_about_lru(open_disk):
    """What was used longest ago goes, but for the accidents of a sample."""
    disk = open_disk(max_bytes="1MiB", weights=Weights.lru())
    fill(disk, range(400))
    for number in random.Random(1).sample(range(400), 400):
        disk.get(number)
        disk["tick", 0] = number  # time passes with writes
    order = random.Random(1).sample(range(400), 400)
    fill(disk, (("new", n) for n in range(200)))
    assert kept(disk, order[-100:]) > kept(disk, order[:100]) + 0.5


def test_costly_entries_stay(open_disk):
    """Of entries alike, those that cost or matter more are kept."""
    for factor in ("cost", "importance"):
        disk = open_disk(factor, max_bytes="1MiB")
        fill(disk, (("dear", n) for n in range(150)), **{factor: 100})
        fill(disk, (("cheap", n) for n in range(150)))
        fill(disk, (("new", n) for n in range(300)))
        assert kept(disk, (("dear", n) for n in range(150))) > 0.9
        assert kept(disk, (("cheap", n) for n in range(150))) < 0.5


def test_large_entries_go_first(open_disk):
    """Of entries alike, the small ones are kept; without weight of size they are not."""
    shares = []
    for size in (1.0, 0.0):
        disk = open_disk(f"size{size}", max_bytes="2MiB", weights=Weights(size=size))
        disk.put_many((("small", n), b"x" * 300) for n in range(500))
        disk.put_many((("large", n), b"x" * 8000) for n in range(100))
        fill(disk, (("new", n) for n in range(900)))
        shares.append(kept(disk, (("small", n) for n in range(500))))
    assert shares[0] > 0.9
    assert shares[1] < shares[0] - 0.2


def test_evict_on_demand(disk):
    """So many entries leave, those worth least, and never more than there are."""
    fill(disk, range(300))
    for number in range(100):
        disk.get(number)
        disk.get(number)
    assert disk.evict(100) == 100
    assert len(disk) == 200
    assert kept(disk, range(100)) > 0.9
    assert disk.evict(1000) == 200
    assert disk.evict() == 0
    assert disk.stats().evictions == 300


def test_a_key_that_returns_is_remembered(open_disk):
    """The mark of an evicted entry stays: what was used often counts as such again."""
    disk = open_disk(max_bytes="1MiB", weights=Weights.lfu())
    often, once = ([(word, n) for n in range(20)] for word in ("often", "once"))
    fill(disk, [*often, *once])
    for number in range(10):
        disk.get_many(often)
        disk["tick"] = number
    assert disk.evict(100) == 41
    fill(disk, [*often, *once])
    fill(disk, range(100))
    disk.evict(110)
    assert kept(disk, often) > kept(disk, once) + 0.3


READER = """
    import sys
    from hybridcore import Lmdb
    with Lmdb(sys.argv[1], max_bytes="1MiB") as disk:
        for _ in range(3):
            for number in range(100):
                assert disk[number]
"""


def test_reads_of_other_processes_count(open_disk):
    """What only another process reads is not evicted."""
    disk = open_disk(max_bytes="1MiB")
    fill(disk, range(300))
    subprocess.run([sys.executable, "-c", textwrap.dedent(READER), str(disk.directory)], check=True)
    fill(disk, (("new", n) for n in range(250)))
    assert kept(disk, range(100)) > 0.9
    assert kept(disk, range(100, 300)) < 0.6


def test_expired_entries_are_swept_in_the_background(tmp_path):
    """A thread deletes them, without a read or a write; it ends with the tier."""
    with Lmdb(tmp_path / "cache", sweep=0.02) as disk:
        assert disk._sweeper._thread is None
        fill(disk, range(100), ttl=0.05)
        disk["stays"] = 1
        deadline = time.monotonic() + 20
        while len(disk) > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(disk) == 1
        thread = disk._sweeper._thread
    assert not thread.is_alive()


def test_no_thread_without_a_sweep(tmp_path):
    """None: expired entries leave when room is needed, or by expire()."""
    with Lmdb(tmp_path / "cache", sweep=None) as disk:
        fill(disk, range(10), ttl=10)
        assert disk._sweeper is None
    with pytest.raises(ConfigurationError):
        Lmdb(tmp_path / "cache", sweep="soon")


def test_marks_count_and_forget(tmp_path):
    """Uses add up per key, and a key that is not used gives way to others."""
    marks = open_marks(tmp_path, 1 << 20)
    assert marks.uses(b"key") == (0, 0)
    marks.wrote(7, 1, full=False)
    marks.used(b"key")
    marks.used(b"key")
    assert marks.uses(b"key") == (2, 7)
    for _ in range(300):
        marks.used(b"key")
    assert marks.uses(b"key")[0] == 255
    marks.wrote(8, 1, full=False)
    for number in range(20_000):
        marks.used(b"other %d" % number)
    assert marks.uses(b"key") == (0, 0)


def test_marks_are_a_file(tmp_path):
    """A second mapping sees the first one's marks; a broken file is replaced."""
    one, two = open_marks(tmp_path, 1 << 20), open_marks(tmp_path, 1 << 30)
    one.used(b"key")
    assert two.uses(b"key")[0] == 1
    file = tmp_path / "marks"
    assert file.stat().st_mode & 0o777 == 0o600
    for content in (b"", b"x" * 100, b"x" * 100_000, file.read_bytes()[:-8]):
        file.write_bytes(content)
        assert open_marks(tmp_path, 1 << 20).uses(b"key") == (0, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["marks"]


def test_marks_without_a_file(tmp_path):
    """Where there is no directory they are in memory."""
    marks = open_marks(tmp_path / "missing", 1 << 20)
    marks.used(b"key")
    assert marks.uses(b"key")[0] == 1


@pytest.mark.parametrize("size", [0, HEAD_SIZE, HEAD_SIZE + 8, HEAD_SIZE + 64 * 3])
def test_marks_need_room(size):
    """A buffer of another size is refused, and a head that says too much."""
    with pytest.raises(ValueError, match="expected room"):
        Marks(bytearray(size))
    with pytest.raises(ValueError, match="the head says"):
        Marks(bytearray(HEAD_SIZE + 64))


def test_marks_grow_with_the_entries(open_disk):
    """The file takes little at first, and what is known of a key stays known."""
    disk = open_disk(max_bytes="64MiB")
    marks = disk._environment.marks
    before = (disk.directory / "marks").stat().st_blocks
    assert before * 512 < 200_000
    disk["key"] = 1
    for _ in range(5):
        assert disk["key"] == 1
    disk.put_many((n, n) for n in range(8000))
    assert marks.size == 32768
    assert (disk.directory / "marks").stat().st_blocks > before
    assert marks.uses(lmdb_key(encode_key("key")))[0] == 6
    while marks.size < 1 << 18:  # more than 64 MiB / 512, and a quarter of that
        marks.widen()
    with pytest.raises(ValueError, match="in use"):
        marks.widen()


def test_odd_traits_do_no_harm():
    """Costs of nothing, of infinity and of no number have a place."""
    for cost in (0.0, -1.0, float("inf"), float("nan"), 1e-300):
        assert len(traits_of(2**40, cost, 1.0, 2**63)) == 8


def test_it_learns_what_is_used_again(open_disk):
    """In a loop that is larger than the tier, what stays is used again: LRU would keep nothing."""
    disk = open_disk(max_bytes="1MiB")
    for _ in range(30):
        hits = 0
        for number in range(700):
            if disk.get(number) is not None:
                hits += 1
            else:
                disk[number] = VALUE
    assert disk._environment.marks.lessons > 10
    assert hits > 100
