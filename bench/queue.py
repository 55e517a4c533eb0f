"""Compares durable queues: items stored and taken, alone, in batches, and by producers that wait.

Every queue does the same number of operations in each of the interleaved rounds, on a directory of
its own, and ratios are taken within a round. The clock is that of the wall: syncs count. Beside
them stands LMDB itself, a transaction for each operation, which is what an operation that survives
``kill -9`` cannot be faster than here.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench.report import cell, print_row, quotients, save, spread

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

ITEM = bytes(range(200))
PRODUCERS = 64
DISTRIBUTIONS = ("hybridcore", "persist-queue", "litequeue", "diskcache", "lmdb")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench queue``."""
    parser.add_argument("--rounds", type=int, default=9, help="at least 9 for a fact (default 9)")
    parser.add_argument("--seed", type=int, default=1, help="of the orders (default 1)")
    parser.add_argument("--steps", type=int, default=400, help="operations that sync or commit")
    parser.add_argument("--many", type=int, default=20_000, help="operations that share commits")
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="items to tell it of")
    parser.add_argument("--only", default="", help="only lines whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every number here")


def main(options: argparse.Namespace) -> None:
    """Measure, print the table, and save everything if asked to."""
    rng = Random(options.seed)
    results: dict[str, Any] = {}
    print_row("operations a second", ["hybridcore", "other", "ratio", "wanted"])
    for name, (ours, other, wanted) in LINES.items():
        if options.only not in name:
            continue
        rates: dict[Callable[..., Any], list[float]] = {ours: [], other: []}
        for _ in range(options.rounds):
            for side in rng.sample([ours, other], 2):
                with TemporaryDirectory() as directory:
                    rates[side].append(side(Path(directory), options))
        ratio = spread(quotients(rates[ours], rates[other]))
        numbers = {"hybridcore": spread(rates[ours]), "other": spread(rates[other])}
        results[name] = numbers | {"ratio": ratio, "wanted": wanted}
        middles = [f"{median(rates[side]):.0f}" for side in (ours, other)]
        print_row(name, [*middles, cell(ratio), "" if wanted is None else f"{wanted:g}"])
    memory = memory_of_many(options.memory) if options.memory else None
    if memory is not None:
        print_row(
            f"MiB that {options.memory:,} of 1 KiB take", ["resident", "heap", "mapped", "wanted"]
        )
        for name, most in memory.items():
            print_row(name, [*(f"{size:.1f}" for size in most.values()), "64"])
    if options.json:
        save(options.json, options, DISTRIBUTIONS, {"results": results, "memory": memory})


MEMORY = """
import json, sys
import hybridcore as hc

NAMES = {"VmRSS": "resident", "RssAnon": "heap", "RssFile": "mapped"}

def memory():
    with open("/proc/self/status") as lines:
        fields = dict(line.split(":") for line in lines)
    return {NAMES[name]: int(fields[name].split()[0]) / 1024 for name in NAMES}

class Most:
    def __init__(self):
        self.before = memory()
        self.most = dict.fromkeys(self.before, 0.0)

    def look(self):
        for name, now in memory().items():
            self.most[name] = max(self.most[name], now - self.before[name])

with hc.WriteQueue(sys.argv[1], durability="process") as queue:
    queue.put(-1, b"")
    queue.ack(queue.take(1))
    value, items = bytes(1024), int(sys.argv[2])
    coming, going = Most(), Most()
    for number in range(items):
        queue.put_nowait(number, value)
        if number % 1000 == 0:
            coming.look()
    queue.sync()
    coming.look()
    assert queue.stats().depth == items
    taken, seen = queue.take(100), 0
    while taken:
        seen += len(taken)
        taken = queue.take(100, done=taken)
        if seen % 1000 == 0:
            going.look()
    going.look()
    assert seen == items
print(json.dumps({"while they come": coming.most, "while they go": going.most}))
"""


def memory_of_many(items: int) -> dict[str, dict[str, float]]:
    """By how many MiB at most the memory of a process grows that queues so many items of 1 KiB.

    It is told while they come and while they go, as the system counts it: all that is resident,
    what of that is heap, and what is mapped of files.
    """
    with TemporaryDirectory() as directory:
        command = [sys.executable, "-c", MEMORY, f"{directory}/queue", str(items)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    grown: dict[str, dict[str, float]] = json.loads(done.stdout)
    return grown


def per_second(count: int, work: Callable[[], object]) -> float:
    """How many operations a second the work does that does so many."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def _queue(directory: Path, **options: Any) -> Any:
    import hybridcore

    return closing(hybridcore.WriteQueue(directory / "queue", **options))


def put_not_waiting(directory: Path, options: argparse.Namespace) -> float:
    """Enqueue, and wait at the end until all is synced."""
    with _queue(directory) as queue:

        def work() -> None:
            for number in range(options.many):
                queue.put_nowait(number, ITEM)
            queue.sync()

        return per_second(options.many, work)


def put_by_many(directory: Path, options: argparse.Namespace) -> float:
    """Producers, each of which waits until its item is synced."""
    each = max(1, 8 * options.steps // PRODUCERS)
    with _queue(directory) as queue:

        def produce(producer: int) -> None:
            for number in range(each):
                queue.put((producer, number), ITEM)

        threads = [threading.Thread(target=produce, args=(n,)) for n in range(PRODUCERS)]

        def work() -> None:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        return per_second(each * PRODUCERS, work)


def take_by_hundreds(directory: Path, options: argparse.Namespace) -> float:
    """Take and acknowledge a hundred at a time, synced."""
    with _queue(directory) as queue:
        for number in range(options.many):
            queue.put_nowait(number, ITEM)
        queue.sync()

        def work() -> None:
            taken = queue.take(100)
            while taken:
                taken = queue.take(100, done=taken)

        return per_second(options.many, work)


def put_single(directory: Path, options: argparse.Namespace) -> float:
    """A commit for each item, none synced."""
    with _queue(directory, durability="process") as queue:

        def work() -> None:
            for number in range(10 * options.steps):
                queue.put(number, ITEM)

        return per_second(10 * options.steps, work)


def take_single(directory: Path, options: argparse.Namespace) -> float:
    """A commit for each item, which acknowledges the one before, none synced."""
    with _queue(directory, durability="process") as queue:
        for number in range(10 * options.steps):
            queue.put_nowait(number, ITEM)
        queue.sync()

        def work() -> None:
            taken = queue.take(1)
            while taken:
                taken = queue.take(1, done=taken)

        return per_second(10 * options.steps, work)


def _sqlite(directory: Path) -> Any:
    from persistqueue import SQLiteAckQueue

    return SQLiteAckQueue(str(directory / "queue"), auto_commit=True)


def sqlite_put(directory: Path, options: argparse.Namespace) -> float:
    """SQLiteAckQueue, which syncs each."""
    queue = _sqlite(directory)
    rate = per_second(
        options.steps, lambda: [queue.put((number, ITEM)) for number in range(options.steps)]
    )
    queue.close()
    return rate


def sqlite_take(directory: Path, options: argparse.Namespace) -> float:
    """SQLiteAckQueue: take and acknowledge each."""
    queue = _sqlite(directory)
    for number in range(options.steps):
        queue.put((number, ITEM))
    rate = per_second(options.steps, lambda: [queue.ack(queue.get()) for _ in range(options.steps)])
    queue.close()
    return rate


def litequeue_put(directory: Path, options: argparse.Namespace) -> float:
    """litequeue, which syncs none."""
    import litequeue

    queue = litequeue.LiteQueue(str(directory / "queue.db"))
    text = ITEM.decode("latin-1")
    rate = per_second(options.steps, lambda: [queue.put(text) for _ in range(options.steps)])
    queue.close()
    return rate


def litequeue_take(directory: Path, options: argparse.Namespace) -> float:
    """litequeue: take and acknowledge each."""
    import litequeue

    queue = litequeue.LiteQueue(str(directory / "queue.db"))
    for _ in range(options.steps):
        queue.put(ITEM.decode("latin-1"))

    def work() -> None:
        for _ in range(options.steps):
            queue.done(queue.pop().message_id)

    rate = per_second(options.steps, work)
    queue.close()
    return rate


def deque_put(directory: Path, options: argparse.Namespace) -> float:
    """diskcache.Deque, which syncs none."""
    from diskcache import Deque

    queue = Deque(directory=str(directory))
    rate = per_second(
        options.steps, lambda: [queue.append((number, ITEM)) for number in range(options.steps)]
    )
    queue.cache.close()
    return rate


def deque_take(directory: Path, options: argparse.Namespace) -> float:
    """diskcache.Deque, which has no acknowledgements: what is taken is gone."""
    from diskcache import Deque

    queue = Deque(((n, ITEM) for n in range(options.steps)), directory=str(directory))
    rate = per_second(options.steps, lambda: [queue.popleft() for _ in range(options.steps)])
    queue.cache.close()
    return rate


def _lmdb(directory: Path) -> Any:
    import lmdb

    return lmdb.open(str(directory), map_size=1 << 28, sync=False, max_dbs=1)


def lmdb_put(directory: Path, options: argparse.Namespace) -> float:
    """LMDB: a transaction for each item, none synced."""
    with closing(_lmdb(directory)) as env:

        def work() -> None:
            for number in range(10 * options.steps):
                with env.begin(write=True) as txn:
                    txn.put(number.to_bytes(8, "big"), ITEM)

        return per_second(10 * options.steps, work)


def lmdb_take(directory: Path, options: argparse.Namespace) -> float:
    """LMDB: a transaction for each item that reads and removes it."""
    with closing(_lmdb(directory)) as env:
        with env.begin(write=True) as txn:
            for number in range(10 * options.steps):
                txn.put(number.to_bytes(8, "big"), ITEM)

        def work() -> None:
            for number in range(10 * options.steps):
                with env.begin(write=True) as txn:
                    txn.pop(number.to_bytes(8, "big"))

        return per_second(10 * options.steps, work)


def hybrid_put(directory: Path, options: argparse.Namespace) -> float:
    """`HybridCache.put` under write_behind, accepted in memory."""
    import hybridcore as hc

    rows: dict[Any, Any] = {}
    origin = hc.CallableOrigin(rows.get, store=rows.__setitem__)
    queue = hc.WriteQueue(directory / "queue", lambda batch: None, wait=False, gather=1)
    with hc.HybridCache(
        hc.Memory(10_000), origin=origin, strategy="write_behind", queue=queue
    ) as c:
        return _caller(c, options)


def memory_put(directory: Path, options: argparse.Namespace) -> float:
    """`HybridCache.put` on memory alone."""
    import hybridcore as hc

    with hc.HybridCache(hc.Memory(10_000)) as c:
        return _caller(c, options)


def _caller(cache: Any, options: argparse.Namespace) -> float:
    """Puts a second, on the processor clock of the thread that puts."""
    for number in range(1000):
        cache.put(number, ITEM)
    started = time.thread_time()
    for _ in range(options.many // 1000):
        for number in range(1000):
            cache.put(number, ITEM)
    return options.many // 1000 * 1000 / (time.thread_time() - started)


LINES: dict[str, tuple[Callable[..., float], Callable[..., float], float | None]] = {
    "put, not waiting / SQLiteAckQueue": (put_not_waiting, sqlite_put, 100),
    "64 that wait / SQLiteAckQueue": (put_by_many, sqlite_put, 6),
    "take+ack of 100 / SQLiteAckQueue": (take_by_hundreds, sqlite_take, 50),
    "put, no sync / diskcache.Deque": (put_single, deque_put, 8),
    "put, no sync / litequeue": (put_single, litequeue_put, None),
    "put, no sync / LMDB itself": (put_single, lmdb_put, None),
    "take+ack, no sync / diskcache.Deque": (take_single, deque_take, 8),
    "take+ack, no sync / litequeue": (take_single, litequeue_take, None),
    "take+ack, no sync / LMDB itself": (take_single, lmdb_take, None),
    "write_behind put / memory put": (hybrid_put, memory_put, 1 / 3),
}
"""What is compared with what, and how many times the throughput of the other is wanted."""
