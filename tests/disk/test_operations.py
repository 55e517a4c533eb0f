"""Reads and writes in one transaction, tags, prefixes, and writes that share a commit."""

from __future__ import annotations

import threading

import pytest

from hybridcore import Codec, Codecs, KeyEncodingError, Lmdb


def test_add_stores_what_is_missing(disk, clock):
    """It stores where there is no fresh entry, and says whether it did."""
    assert disk.add("key", 1, ttl=10) is True
    assert disk.add("key", 2) is False
    assert disk["key"] == 1
    clock.advance(11)
    assert disk.add("key", 3) is True
    assert disk["key"] == 3


def test_setdefault(disk):
    """It returns the value that is there, else stores its own."""
    assert disk.setdefault("key", 1) == 1
    assert disk.setdefault("key", 2) == 1
    assert disk.setdefault("none") is None
    assert "none" in disk


def test_incr_keeps_what_the_entry_had(disk, clock):
    """The ttl, tag, cost and importance stay; a missing entry counts as the default."""
    assert disk.incr("hits") == 1
    assert disk.incr("hits", 4) == 5
    assert disk.decr("hits", 2) == 3
    assert disk.incr("share", 0.5, default=1) == 1.5
    disk.put("brief", 1, ttl=10, tag="t", cost=3, importance=2)
    clock.advance(5)
    assert disk.incr("brief") == 2
    record = disk.fetch("brief")
    assert (record.tag, record.cost, record.importance) == ("t", 3, 2)
    assert record.ttl_left == pytest.approx(5)
    clock.advance(6)
    assert disk.incr("brief", default=10, ttl=3) == 11
    assert disk.fetch("brief").ttl_left == pytest.approx(3)


def test_incr_refuses_what_is_no_number(disk):
    """Neither a missing entry without default nor a text is changed."""
    with pytest.raises(KeyError):
        disk.incr("missing", default=None)
    disk["text"] = "1"
    with pytest.raises(TypeError, match=r"number.*got str"):
        disk.incr("text")
    assert disk["text"] == "1"
    assert "missing" not in disk


def test_increments_of_many_threads_add_up(disk):
    """None is lost when they meet."""
    threads = [
        threading.Thread(target=lambda: [disk.incr("n") for _ in range(50)]) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert disk["n"] == 300


def test_an_unreadable_value_can_be_added_to(open_disk):
    """What no codec reads any more is a miss, which `add` and `incr` replace."""

    class Odd:
        pass

    with open_disk(codecs=Codecs(Codec(77, Odd, lambda _: b"", lambda _: Odd()))) as writer:
        writer["one"] = writer["two"] = Odd()
    disk = open_disk()
    assert disk.add("one", 1) is True
    assert disk.incr("two") == 1
    assert disk.get_many(["one", "two"]) == {"one": 1, "two": 1}


def test_popitem_takes_the_last(disk, clock):
    """That is the last of iteration, until none is left."""
    disk.update({"a": 1, "c": 3, "b": 2})
    disk.put("late", 4, ttl=1)
    clock.advance(2)
    assert [disk.popitem() for _ in range(3)] == [("c", 3), ("b", 2), ("a", 1)]
    with pytest.raises(KeyError, match="empty"):
        disk.popitem()
    assert len(disk) == 0


def test_touch_gives_a_new_ttl(disk, clock):
    """From now on, longer, shorter or without end; an expired entry stays expired."""
    disk.put("key", 1, ttl=10, tag="t", cost=2)
    clock.advance(5)
    assert disk.touch("key", 10) is True
    clock.advance(8)
    record = disk.fetch("key")
    assert (record.value, record.tag, record.cost) == (1, "t", 2)
    assert record.ttl_left == pytest.approx(2)
    assert disk.touch("key", None) is True
    clock.advance(1e6)
    assert disk["key"] == 1
    disk.put("brief", 1, ttl=1)
    clock.advance(2)
    assert disk.touch("brief", 10) is False
    assert disk.touch("missing", 10) is False


def test_expire_deletes_what_has_expired(disk, clock):
    """All of it, however much, and nothing that may still be served stale."""
    disk.put_many(((n, n) for n in range(300)), ttl=1)
    disk.put("stale", 1, ttl=1, stale=10)
    disk.put("fresh", 1, ttl=10)
    disk["endless"] = 1
    assert disk.expire() == 0
    clock.advance(2)
    assert disk.expire() == 300
    assert len(disk) == 3
    assert disk.stats().evicted_expired == 300
    assert disk.fetch("stale").fresh is False
    clock.advance(100)
    assert disk.expire() == 2
    assert list(disk) == ["endless"]


def test_a_rewritten_entry_expires_when_it_should(disk, clock):
    """The index follows overwriting, touching and deleting."""
    disk.put("longer", 1, ttl=1)
    disk.put("longer", 2, ttl=100)
    disk.put("endless", 1, ttl=1)
    disk["endless"] = 2
    disk.put("gone", 1, ttl=1)
    del disk["gone"]
    disk.put("touched", 1, ttl=1)
    disk.touch("touched", 100)
    clock.advance(2)
    assert disk.expire() == 0
    assert dict(disk) == {"longer": 2, "endless": 2, "touched": 1}
    clock.advance(100)
    assert disk.expire() == 2


def test_evict_tag(disk):
    """It deletes what has the tag, in batches, and nothing else."""
    disk.put_many((("red", n), n) for n in range(10))
    disk.put_many(((n, n) for n in range(1200)), tag="even")
    disk.put("one", 1, tag="odd")
    assert disk.evict_tag("even") == 1200
    assert disk.evict_tag("even") == 0
    assert len(disk) == 11
    assert disk.fetch("one").tag == "odd"


def test_keys_from_a_prefix(disk):
    """str finds str, bytes bytes, tuples tuples with the same first elements."""
    keys = ["user:1", "user:2", "use", "v", b"user:1", ("user", 1), ("user", 2, "x"), ("users", 1)]
    disk.put_many((key, 1) for key in keys)
    disk.put_many((f"many:{n:04}", n) for n in range(1300))
    assert list(disk.keys_from("user:")) == ["user:1", "user:2"]
    assert list(disk.keys_from(b"u")) == [b"user:1"]
    assert list(disk.keys_from(("user",))) == [("user", 1), ("user", 2, "x")]
    assert list(disk.keys_from("many:")) == [f"many:{n:04}" for n in range(1300)]
    assert list(disk.keys_from("nothing")) == []
    assert len(list(disk.keys_from(""))) == 1304
    with pytest.raises(KeyEncodingError, match="at most 495 bytes"):
        list(disk.keys_from("x" * 500))
    with pytest.raises(KeyEncodingError, match="str, bytes or tuple"):
        list(disk.keys_from(1))


def test_long_keys_have_prefixes_too(disk):
    """Also where LMDB's key is cut off and hashed."""
    keys = ["p" * 400 + "x" * 1000 + str(n) for n in range(5)]
    disk.put_many((key, 1) for key in keys)
    assert set(disk.keys_from("p" * 400)) == set(keys)
    assert set(disk.keys_from("p" * 400 + "y")) == set()


def test_puts_that_meet_share_a_commit(open_disk, monkeypatch):
    """What waits while somebody commits goes into the next commit, all of it."""
    disk = open_disk()
    writer = disk._writer
    entered, go = threading.Event(), threading.Event()
    commit = writer._commit

    def slow_commit(records):
        entered.set()
        assert go.wait(10)
        commit(records)

    monkeypatch.setattr(writer, "_commit", slow_commit)
    threads = [threading.Thread(target=disk.put, args=(n, n)) for n in range(20)]
    threads[0].start()
    assert entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(disk._environment.waiting) < 19:
        pass
    go.set()
    for thread in threads:
        thread.join()
    assert dict(disk) == {n: n for n in range(20)}
    assert disk.stats().commits == 2
    assert disk.stats().puts == 20


def test_one_that_fails_does_not_fail_the_others(tmp_path, monkeypatch):
    """Where a shared commit fails each is tried alone, and only the culprit gets the error."""
    with Lmdb(tmp_path / "cache") as disk:
        environment = disk._environment
        turn = environment.turn
        errors = {}

        def put(number):
            try:
                disk.put(number, b"x" * 100)
            except Exception as error:
                errors[number] = error

        store = type(disk._writer)._commit

        def commit(self, records):
            if any(packed.key == b"\x11\x01\x03" for packed in records):
                from hybridcore import DiskError

                raise DiskError("no room for 3")
            store(self, records)

        monkeypatch.setattr(type(disk._writer), "_commit", commit)
        with turn:
            threads = [threading.Thread(target=put, args=(n,)) for n in range(6)]
            for thread in threads:
                thread.start()
            while len(environment.waiting) < 6:
                pass
        for thread in threads:
            thread.join()
        assert set(disk) == {0, 1, 2, 4, 5}
        assert list(errors) == [3]
        assert "no room" in str(errors[3])
