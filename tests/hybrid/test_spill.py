"""What memory evicts goes to disk, and only that."""

from __future__ import annotations

import pytest

import hybridcore as hc
from tests.hybrid.conftest import Source


@pytest.fixture
def spilling(make_store, clock):
    def make(source, **options):
        memory = hc.Cache(10, timer=clock.seconds, weights=hc.Weights.lru())
        return make_store(source, memory=memory, spill=True, **options)

    return make


def test_what_is_evicted_is_on_disk(drive, spilling):
    """Not before it is evicted; from there it is promoted without a load."""
    source = Source({n: n for n in range(30)})
    store = spilling(source)
    for number in range(10):
        drive.get(store, number)
    assert len(store._engine.disk) == 0
    for number in range(10, 30):
        drive.get(store, number)
    assert set(store._engine.disk) == set(range(20))
    assert store.stats().origin.spilled == 20
    source.asked.clear()
    assert drive.get(store, 0) == 0
    assert source.asked == []


def test_what_was_promoted_is_not_written_again(drive, spilling):
    """The disk has it already."""
    store = spilling(Source({n: n for n in range(30)}))
    for number in [*range(30), *range(30)]:
        drive.get(store, number)
    spilled = store.stats().origin.spilled
    puts = store._engine.disk.stats().puts
    assert spilled == puts == 30
    for number in [*range(30), *range(30)]:
        drive.get(store, number)
    assert store._engine.disk.stats().puts == puts


def test_it_keeps_its_ttl_and_validators(drive, spilling):
    """What is left of the ttl; what has expired is not written."""
    source = Source({n: n for n in range(30)}, etags=True)
    store = spilling(source, ttl=1000)
    drive.get(store, 0)
    drive.get_many(store, range(1, 30))
    record = store._engine.disk.fetch(0)
    assert 990 < record.ttl_left <= 1000
    assert record.validators is not None


def test_puts_go_to_disk_at_once(drive, spilling):
    """An acknowledged put survives, and deletes leave nothing behind."""
    store = spilling(Source())
    drive.put(store, "k", 1)
    assert store._engine.disk["k"] == 1
    drive.delete(store, "k")
    for number in range(30):
        drive.put(store, number, 0)
    assert "k" not in store._engine.disk
