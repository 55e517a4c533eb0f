"""Dead letters are kept exactly, as long and as many as was said, and replayed as they were."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from hybridcore import CallableOrigin, Compression, HybridCache, Memory
from hybridcore.codec import Codec, Codecs
from hybridcore.errors import EncodeError
from hybridcore.write_queue import Redelivery, WriteQueue

ONCE = Redelivery(attempts=1)


class Money:
    """Of a type that plain codecs do not know."""

    def __init__(self, cents):
        self.cents = cents


CODECS = Codecs(Codec(70, Money, lambda money: b"%d" % money.cents, lambda raw: Money(int(raw))))


def refuse(batch):
    raise ValueError("no")


def bury(queue, **writes):
    """Have writes die."""
    for key, value in writes.items():
        queue.put(key, value)
    queue.nack(queue.take(len(writes)), ValueError("no"))


def test_values_of_unknown_types_are_replayed_as_they_were(tmp_path):
    """Who replays, such as the command line, need not be able to read what it queues again."""
    with WriteQueue(tmp_path / "q", codecs=CODECS, redelivery=ONCE) as queue:
        bury(queue, m=Money(5))
    with WriteQueue(tmp_path / "q") as elsewhere:
        (letter,) = elsewhere.dead_letters
        assert letter.value is None
        assert "codec 70 is unknown here" in letter.unreadable
        assert elsewhere.dead_letters.replay() == 1
    with WriteQueue(tmp_path / "q", codecs=CODECS) as queue:
        (delivery,) = queue.take()
        assert (delivery.key, delivery.value.cents) == ("m", 5)


def test_what_could_not_be_read_is_replayed_where_it_can(tmp_path):
    """A write that died where its codec was missing goes out as soon as the codec is there."""
    with WriteQueue(tmp_path / "q", codecs=CODECS) as queue:
        queue.put("m", Money(5))
    with WriteQueue(tmp_path / "q") as without:
        assert without.take() == []
        (letter,) = without.dead_letters
        assert letter.reason == "undecodable"
    with WriteQueue(tmp_path / "q", codecs=CODECS) as queue:
        assert queue.dead_letters.replay() == 1
        (delivery,) = queue.take()
        assert delivery.value.cents == 5


def test_compressed_values_are_replayed_by_who_does_not_compress(tmp_path):
    """The payload of a letter keeps the compression that it had."""
    with WriteQueue(tmp_path / "q", compression=Compression("lz4"), redelivery=ONCE) as queue:
        bury(queue, k="again " * 1000)
    with WriteQueue(tmp_path / "q") as queue:
        assert queue.dead_letters.replay() == 1
        assert queue.stats().bytes < 1000
        (delivery,) = queue.take()
        assert delivery.value == "again " * 1000


def test_a_value_that_cannot_be_stored_leaves_its_letter(tmp_path):
    """An edit that cannot be encoded is refused, and the letter stays."""
    with WriteQueue(tmp_path / "q", redelivery=ONCE) as queue:
        bury(queue, k=1)
        (letter,) = queue.dead_letters
        with pytest.raises(EncodeError):
            queue.dead_letters.replay(letter.id, value=object())
        assert list(queue.dead_letters) == [letter]


def test_all_that_died_until_now_are_replayed_once(tmp_path):
    """What dies again while letters are replayed is not replayed with them."""
    with WriteQueue(tmp_path / "q", redelivery=ONCE) as queue:
        bury(queue, a=1, b=2, c=3)

        def dies_again(letter):
            queue.nack(queue.take(), ValueError("still not"))
            return True

        assert queue.dead_letters.replay(where=dies_again) == 3


def test_a_cache_forgets_what_a_replayed_write_makes_old(tmp_path):
    """What was loaded after a write had died is not answered once that is queued again."""
    rows, held = {"k": "old"}, threading.Event()

    def store(key, value):
        assert held.wait(20)
        if value == "refused":
            raise ValueError
        rows[key] = value

    queue = WriteQueue(tmp_path / "q", redelivery=ONCE)
    origin = CallableOrigin(rows.get, store=store)
    with HybridCache(Memory(9), origin=origin, strategy="write_behind", queue=queue) as cache:
        cache.put("k", "refused")
        held.set()
        assert cache.flush(20)
        until(lambda: cache.get("k") == "old")
        held.clear()
        assert queue.dead_letters.replay(value="new") == 1
        assert cache.get("k") == "new"
        held.set()
        assert cache.flush(20)
        assert (cache.get("k"), rows) == ("new", {"k": "new"})


def test_no_pause_after_the_last_letter(tmp_path, monkeypatch):
    """A rate spaces letters, and holds nobody up when there is none left."""
    slept = []
    monkeypatch.setattr("hybridcore.write_queue.dead_letters.time.sleep", slept.append)
    with WriteQueue(tmp_path / "q", redelivery=ONCE) as queue:
        bury(queue, a=1, b=2, c=3)
        assert queue.dead_letters.replay(rate=0.01) == 3
    assert [round(pause, -1) for pause in slept] == [0, 100, 200]


def test_no_more_letters_than_needed_are_purged(tmp_path):
    """When they take more than max_dead_bytes the oldest go, until the rest just fits."""
    with WriteQueue(tmp_path / "q", redelivery=ONCE) as queue:
        bury(queue, **{f"k{number:02}": number for number in range(20)})
        each = queue.stats().dead_bytes // 20
    with WriteQueue(tmp_path / "q", redelivery=ONCE, max_dead_bytes=20 * each + 50) as queue:
        bury(queue, last=1)
        until(lambda: queue.stats().dead_bytes <= 20 * each + 50)
        assert [letter.key for letter in queue.dead_letters] == [
            *(f"k{number:02}" for number in range(1, 20)),
            "last",
        ]


def test_old_letters_are_purged_whatever_died_before_them(tmp_path, monkeypatch):
    """How long ago a write died counts, not how long ago it was queued."""
    now = [time.time()]
    monkeypatch.setattr("time.time", lambda: now[0])
    with WriteQueue(tmp_path / "q", redelivery=ONCE, keep_dead="1d") as queue:
        queue.put("first", 1)
        (first,) = queue.take()
        bury(queue, second=2)
        until(lambda: queue.dead_letters._aged_at > 0)
        now[0] += 86_000
        queue.nack([first], ValueError("no"))
        now[0] += 1000
        queue.dead_letters._aged_at = 0.0  # an hour has passed
        queue.dead_letters.retain()
        assert [letter.key for letter in queue.dead_letters] == ["first"]


def test_letters_grow_old_although_no_other_write_dies(tmp_path):
    """While there are workers, letters are purged when their time is over."""
    with WriteQueue(tmp_path / "q", refuse, redelivery=ONCE, keep_dead=0.5, lease=0.3) as queue:
        queue.put("k", 1)
        assert queue.flush(20)
        assert len(queue.dead_letters) == 1
        until(lambda: not queue.dead_letters, 3)


def test_a_write_that_crashed_tells_how_often_it_was_tried(tmp_path):
    """The claim at which a write is found to have had all its attempts is none of them."""
    for _ in range(2):
        script = f"""
import os, signal
from hybridcore.write_queue import WriteQueue
queue = WriteQueue({str(tmp_path / "q")!r})
queue.pending("k") or queue.put("k", 1)
assert len(queue.take()) == 1
os.kill(os.getpid(), signal.SIGKILL)
"""
        died = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
        assert died.returncode == -signal.SIGKILL
    with WriteQueue(tmp_path / "q", redelivery=Redelivery(attempts=2)) as queue:
        assert queue.take() == []
        (letter,) = queue.dead_letters
        assert (letter.reason, letter.attempts) == ("crashed", 2)


def until(is_so, seconds=20):
    """Wait for something that happens soon."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)
