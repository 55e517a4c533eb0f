"""What is offered to the disk is written when it is worth it."""

from __future__ import annotations

import pytest

from hybridcore import Admission, ConfigurationError, HybridCache, Memory


def test_what_is_offered_once_is_not_written(open_disk):
    """The second offer of a key is; a put always is."""
    disk = open_disk(admission=Admission())
    assert disk.offer("key", 1) is False
    assert "key" not in disk
    assert disk.offer("key", 2) is True
    assert disk["key"] == 2
    disk["other"] = 1
    assert disk["other"] == 1
    stats = disk.stats()
    assert (stats.admitted, stats.rejected_first) == (1, 1)


def test_without_admission_every_offer_is_written(disk):
    """It is a put then."""
    assert disk.offer("key", 1, ttl=5, stale=5, cost=2) is True
    assert disk.fetch("key").cost == 2
    assert disk.stats().admitted == 0


def test_what_is_replaced_is_always_written(open_disk):
    """A rejected value never leaves an older one in place."""
    disk = open_disk(admission=Admission(max_size=1000))
    disk["key"] = "old"
    assert disk.offer("key", "x" * 5000) is True
    assert disk["key"] == "x" * 5000


def test_the_other_processes_know_what_was_offered(open_disk, tmp_path):
    """What was offered is remembered in the directory, also when it is opened again."""
    with open_disk(admission=Admission()) as disk:
        disk.offer("key", 1)
    assert open_disk(admission=Admission()).offer("key", 1) is True


def test_sizes(open_disk):
    """Records below and above the bounds are not written."""
    disk = open_disk(admission=Admission(reject_first=False, min_size=500, max_size="4KiB"))
    assert disk.offer("small", b"x") is False
    assert disk.offer("fits", b"x" * 1000) is True
    assert disk.offer("large", b"x" * 5000) is False
    assert disk.stats().rejected_size == 2


def test_the_rate_is_kept(open_disk):
    """So many bytes a second are written, with a burst of one second."""
    from hybridcore.disk.admission import Admitter

    now = [100.0]
    disk = open_disk(admission=Admission(reject_first=False, write_rate="10KiB"))
    disk._admitter = Admitter(disk._admitter._admission, disk._environment.marks, lambda: now[0])
    written = sum(disk.offer(n, b"x" * 1000) for n in range(100))
    assert 9 <= written <= 11
    now[0] += 0.5
    written = sum(disk.offer(n, b"x" * 1000) for n in range(100, 200))
    assert 4 <= written <= 6
    assert disk.stats().rejected_rate == 200 - disk.stats().admitted


@pytest.mark.parametrize(
    "options", [{"min_size": "x"}, {"min_size": 10, "max_size": 5}, {"write_rate": -1}]
)
def test_bad_options(options):
    """They are refused when the admission is made."""
    with pytest.raises(ConfigurationError):
        Admission(**options)


def test_a_hybrid_cache_offers_what_it_loads(open_disk):
    """The first load stays in memory, the second goes to disk, and a put goes there at once."""
    disk = open_disk(admission=Admission())
    with HybridCache(Memory(10), disk, lambda key: key * 2) as store:
        assert store.get("a") == "aa"
        assert "a" not in disk
        store.memory.clear()
        assert store.get("a") == "aa"
        assert disk["a"] == "aa"
        store.put("b", 1)
        assert disk["b"] == 1
