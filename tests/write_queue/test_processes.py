"""Several processes over one queue: who puts need not be who brings out."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack

import pytest

from hybridcore import HybridCache, Memory
from hybridcore.origins import Origin
from hybridcore.types import Loaded
from hybridcore.write_queue import WriteQueue


def test_a_worker_that_began_with_nothing_to_do(tmp_path):
    """A process that only brings writes out does so, although none waited when it began."""
    script = f"""
import sys
from hybridcore.write_queue import WriteQueue
with WriteQueue({str(tmp_path / "queue")!r}, lambda batch: None):
    print("ready", flush=True)
    sys.stdin.read()
"""
    pipe = subprocess.PIPE
    worker = subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe)
    with worker, WriteQueue(tmp_path / "queue") as queue:
        try:
            assert worker.stdout.readline() == b"ready\n"
            queue.put("k", 1)
            assert queue.flush(3)
        finally:
            worker.stdin.close()
            worker.wait(20)


READER = """
import sys
import hybridcore as hc

directory = sys.argv[1]
loads = 0

def load(key):
    global loads
    loads += 1
    with open(f"{directory}/row") as row:
        value = row.read()
    if loads == 1:
        print("read", flush=True)
        sys.stdin.readline()
    return value

def keep(key, value):
    if key == "k":
        with open(f"{directory}/row", "w") as row:
            row.write(value)

origin = hc.CallableOrigin(load, store=keep)
queue = hc.WriteQueue(f"{directory}/queue")
with hc.HybridCache(hc.Memory(9), origin=origin, strategy="write_behind", queue=queue) as store:
    print(store.get("k"), store.get("k"), store.get("k"), loads, flush=True)
"""


@pytest.mark.parametrize(
    ("written", "seen"),
    [("k", "old new new 2"), ("other", "old old old 1"), (None, "old old old 1")],
)
def test_a_load_that_a_write_has_overtaken(tmp_path, written, seen):
    """What was read before another process queued a write, and brought it out, is not kept."""
    (tmp_path / "row").write_text("old")

    def target(batch):
        if batch[0].key == "k":
            (tmp_path / "row").write_text(batch[0].value)

    pipe = subprocess.PIPE
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path)], stdin=pipe, stdout=pipe, text=True
    )
    with reader, WriteQueue(tmp_path / "queue", target) as queue:
        assert reader.stdout.readline() == "read\n"
        if written is not None:
            queue.put(written, "new")
            assert queue.flush(20)
        assert reader.communicate("\n", timeout=20)[0] == seen + "\n"


class Overtaken(Origin):
    """Another user of the queue writes a key, and brings that out, while the first load reads."""

    writable = True

    def __init__(self, elsewhere, keys):
        self.elsewhere, self.keys = elsewhere, keys
        self.rows = dict.fromkeys("abc", "old")
        self.loads = 0

    def load(self, key, held=None):
        return self.load_many({key: held})[key]

    def load_many(self, wanted):
        self.loads += 1
        found = {key: Loaded(self.rows[key]) for key in wanted}
        if self.loads == 1:
            for key in self.keys:
                self.elsewhere.put(key, "new")
            brought = self.elsewhere.take()
            self.rows |= {one.key: one.value for one in brought}
            assert self.elsewhere.ack(brought) == len(self.keys)
        return found

    def store(self, key, value):
        raise AssertionError


@pytest.fixture
def overtaken(tmp_path):
    """Makes a cache of memory alone whose first load is overtaken by writes of these keys."""
    with ExitStack() as opened:

        def make(*keys):
            queue = WriteQueue(tmp_path / "queue", workers=0)  # it leaves writes to the other one
            elsewhere = opened.enter_context(WriteQueue(tmp_path / "queue"))
            origin = Overtaken(elsewhere, keys)
            options = {"strategy": "write_behind", "queue": queue}
            return opened.enter_context(HybridCache(Memory(10), origin=origin, **options)), origin

        yield make


@pytest.mark.parametrize("load", [HybridCache.get_many, HybridCache.refresh_many])
def test_of_a_batch_what_was_overtaken_is_not_kept(overtaken, load):
    """Of several keys that are loaded together those that were written meanwhile load again."""
    store, origin = overtaken("a", "c")
    load(store, "abc")
    assert [store.peek(key) for key in "abc"] == [None, "old", None]
    assert store.get_many("abc") == {"a": "new", "b": "old", "c": "new"}
    assert (store.get_many("abc"), origin.loads) == (store.get_many("abc"), 2)


def test_nothing_is_kept_when_lanes_were_swept_meanwhile(overtaken, monkeypatch):
    """When the queue has forgotten which keys were written, the load may have been overtaken."""
    store, origin = overtaken("b")
    origin.elsewhere.put("c", "done")
    assert origin.elsewhere.ack(origin.elsewhere.take()) == 1
    monkeypatch.setattr("hybridcore.write_queue.journal._LANES_LEFT", -1)
    monkeypatch.setattr("hybridcore.write_queue.journal._SWEEP_AFTER", 1)
    assert [store.get("a"), store.get("a"), store.get("a")] == ["old"] * 3
    assert origin.loads == 2
