from __future__ import annotations

import sys
import threading

import pytest

from hybridcore import ClosedError, Codec, Codecs, DiskError
from hybridcore.disk import environment


@pytest.fixture
def hasty_switches():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def run(*works):
    """Run each work in a thread of its own; raise what they raised."""
    failures = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.usefixtures("hasty_switches")
def test_eight_threads(disk):
    """One writer per key sees its own writes, all others see only whole values (Fault 20)."""

    def work(me):
        for number in range(150):
            disk[me] = [me, number]
            assert disk[me] == [me, number]
            other = disk.get((me + 1) % 8)
            assert other is None or other[0] == (me + 1) % 8
            if number % 10 == 0:
                disk.put_many({("many", me, n): number for n in range(10)})
                found = disk.get_many([("many", me, n) for n in range(10)])
                assert set(found.values()) == {number}
                assert disk.pop(("many", me, 0)) == number

    run(*(lambda me=me: work(me) for me in range(8)))
    stats = disk.stats()
    assert stats.damaged == 0
    assert stats.puts == 8 * (150 + 15 * 10)
    assert stats.deletes == 8 * 15
    assert len(disk) == 8 + 8 * 9


@pytest.mark.usefixtures("hasty_switches")
def test_the_map_is_resized_under_readers(disk):
    """Resizing waits for those who decode, and nobody reads unmapped memory."""
    disk.put_many({n: [n] * 500 for n in range(50)})
    done = threading.Event()

    def read():
        while not done.is_set():
            assert disk[7] == [7] * 500
            assert len(disk.get_many(range(50))) == 50

    def resize():
        try:
            env = disk._environment
            for step in range(60):
                with env._lock:
                    env._resize((32 + step) << 20)
        finally:
            done.set()

    run(read, read, resize)


class Slow:
    """A value whose decoding waits for the test."""


def slow_codecs(inside, go_on):
    def decode(_):
        inside.set()
        assert go_on.wait(10)
        return Slow()

    return Codecs(Codec(64, Slow, lambda _: b"", decode))


def test_closing_waits_for_those_inside(open_disk):
    """close lets a read that has begun end, and refuses the next one (Fault 16)."""
    inside, go_on = threading.Event(), threading.Event()
    disk = open_disk(codecs=slow_codecs(inside, go_on))
    disk["key"] = Slow()
    closing = threading.Thread(target=disk.close)

    def read():
        assert isinstance(disk["key"], Slow)
        with pytest.raises(ClosedError):
            disk["key"]

    def close():
        assert inside.wait(10)
        closing.start()
        while not disk.closed:
            pass
        assert closing.is_alive()
        go_on.set()
        closing.join()

    run(read, close)


def test_closing_gives_up_on_a_read_that_never_ends(open_disk, monkeypatch):
    """close returns all the same; the environment stays open and is shared again (Fault 16)."""
    monkeypatch.setattr(environment, "_DRAIN_SECONDS", 0.02)
    inside, go_on = threading.Event(), threading.Event()
    disk = open_disk(codecs=slow_codecs(inside, go_on))
    disk["key"] = Slow()
    disk["plain"] = 1
    reader = threading.Thread(target=disk.get, args=("key",))
    reader.start()
    assert inside.wait(10)
    disk.close()
    again = open_disk()
    assert again["plain"] == 1
    with pytest.raises(DiskError, match="resized"):
        open_disk(max_bytes="64MiB")
    go_on.set()
    reader.join()
    assert again["plain"] == 1


def test_a_decoder_that_uses_the_tier(open_disk):
    """Reading and writing from within a decoder works."""

    class Nested:
        pass

    def decode(_):
        disk["inner"] = disk.get("inner", 0) + 1
        return Nested()

    disk = open_disk(codecs=Codecs(Codec(64, Nested, lambda _: b"", decode)))
    disk["outer"] = Nested()
    assert isinstance(disk["outer"], Nested)
    assert isinstance(disk.pop("outer"), Nested)
    assert disk["inner"] == 2


def test_of_many_that_pop_one_gets_it(disk):
    """Each value is popped once, whoever comes first."""
    disk.put_many({n: n for n in range(200)})
    got = []

    def work():
        for number in range(200):
            found = disk.pop(number, None)
            if found is not None:
                got.append(found)

    run(work, work, work, work)
    assert sorted(got) == list(range(200))
