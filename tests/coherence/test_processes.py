"""Processes that share a directory never read what was invalidated before the read began."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import random
import time
from typing import TYPE_CHECKING

import pytest

from hybridcore import EntryOptions, HybridCache, Lmdb, Memory
from hybridcore.types import Loaded

if TYPE_CHECKING:
    from pathlib import Path

KEYS = 24
PROCESSES = 4
LONG = float(os.environ.get("HYBRIDCORE_SECONDS", "15"))
"""Seconds of the long run."""


def tags_of(key: int) -> tuple[str, ...]:
    """A tag for every third key, and one for all."""
    return (f"group {key % 3}", "all")


def work(number: int, directory: Path, truth, acked, reads, failures, seconds: float) -> None:
    """One process: changes the keys that are its own, and reads all of them.

    ``truth`` is what the origin has. ``acked`` is the newest version of each key whose change has
    returned; whoever begins to read after that must see it, or a newer one.
    """
    rng = random.Random(number)
    store = HybridCache(
        memory=Memory(KEYS // 2),
        disk=Lmdb(directory, max_bytes="8MiB"),
        defaults=EntryOptions(ttl="1h"),
        breaker=None,
    )

    def load(key):
        version = truth[key]
        if rng.random() < 0.05:
            time.sleep(0.001)
        depends_on = (("base", key),) if key % 4 == 0 else ()
        return Loaded((key, version), tags=tags_of(key), depends_on=depends_on)

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        key = rng.randrange(KEYS)
        if rng.random() < 0.15:
            key -= key % PROCESSES - number  # one that nobody else changes
            if key < KEYS:
                truth[key] += 1
                version = truth[key]
                change = rng.randrange(7)
                if change == 0:
                    store.put(key, (key, version), tags=tags_of(key))
                elif change == 1:
                    store.delete(key)
                elif change == 2:
                    store.invalidate(key)
                elif change == 3:
                    store.invalidate(tags=[f"group {key % 3}"])
                elif change == 4:
                    store.invalidate(tags=["all"])
                elif change == 5 and key % 4 == 0:
                    store.put(("base", key), version)
                    store.delete(key)
                else:
                    store.clear() if rng.random() < 0.05 else store.delete(key)
                acked[key] = version
        else:
            floor = acked[key]
            way, found = rng.random(), None
            if way < 0.2:
                found = store.get_many([key]).get(key)
            elif way < 0.8:
                found = store.get(key)
            if found is None:
                found = store.get_or_load(key, load)
            reads[number] += 1
            if found[1] < floor:
                failures[number] += 1
                print(f"process {number}: {key} was {found[1]} after {floor}", flush=True)
    store.close()


@pytest.mark.parametrize(
    "seconds", [4.0, pytest.param(LONG, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_no_process_reads_what_was_invalidated(tmp_path, seconds):
    """Four processes change and read at random; no read is older than what it had to see."""
    context = multiprocessing.get_context("spawn")
    truth = context.Array(ctypes.c_int64, KEYS, lock=False)
    acked = context.Array(ctypes.c_int64, KEYS, lock=False)
    reads = context.Array(ctypes.c_int64, PROCESSES, lock=False)
    failures = context.Array(ctypes.c_int64, PROCESSES, lock=False)
    Lmdb(tmp_path / "cache", max_bytes="8MiB").close()
    processes = [
        context.Process(
            target=work, args=(number, tmp_path / "cache", truth, acked, reads, failures, seconds)
        )
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds + 60)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    assert sum(acked) > 100, "hardly anything was changed"
    print(f"{sum(acked)} changes, {sum(reads)} reads, {sum(failures)} of them stale")
    assert sum(failures) == 0
