from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from lmdb.verify import verify

from hybridcore import Lmdb

WRITER = """
    import sys
    from hybridcore import Lmdb
    disk = Lmdb(sys.argv[1], max_bytes="8MiB")
    batch = int(sys.argv[2])
    print("open", flush=True)
    while True:
        disk.put_many({(batch, n): [batch, n, "x" * 300] for n in range(20)})
        print(batch, flush=True)
        disk.delete_many([(batch - 40, n) for n in range(20)])
        if batch % 50 == 0:
            disk.put_many({("filler", n): b"y" * 5000 for n in range(200)})
        batch += 1
"""


@pytest.mark.slow
def test_killed_while_writing(tmp_path):
    """50 kills -9 at random moments of puts, deletes and evictions: reopening works and every
    acknowledged put_many is there, whole (Faults 1 and 4)."""
    rng = random.Random(7)
    batch = 0
    for _ in range(50):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path / "cache"), str(batch)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout.readline() == "open\n"
        time.sleep(rng.uniform(0.005, 0.08))
        writer.send_signal(signal.SIGKILL)
        acknowledged = [int(line) for line in writer.stdout.read().splitlines()]
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        batch = acknowledged[-1] + 2 if acknowledged else batch + 1
        with Lmdb(tmp_path / "cache", max_bytes="8MiB") as disk:
            for done in acknowledged[-39:]:  # the writer deletes what is older
                expected = {(done, n): [done, n, "x" * 300] for n in range(20)}
                assert disk.get_many(expected) == expected
            assert len(list(disk.items())) == len(disk)
            assert disk.stats().damaged == 0
            disk["alive"] = batch
    assert verify(str(tmp_path / "cache"), subdir=True) == []


def test_killed_inside_a_write_transaction(open_disk):
    """The others go on within a second when a process dies holding the writer lock (Fault 4)."""
    disk = open_disk()
    disk["key"] = 1
    pid = os.fork()
    if pid == 0:
        with Lmdb(disk.directory) as child:
            child._environment.write(lambda txn: os.kill(os.getpid(), signal.SIGKILL))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    started = time.monotonic()
    disk["key"] = 2
    assert time.monotonic() - started < 1
    assert disk["key"] == 2


def in_a_child(work):
    """Run ``work`` in a fork and return what it returned, as text."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            said = str(work())
        except BaseException as error:
            said = repr(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as pipe:
        said = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return said


def test_parent_and_child_both_use_it_after_a_fork(disk):
    """Neither disturbs the other: the child opens LMDB for itself (Fault 12)."""
    disk["key"] = "parent"

    def child():
        found = disk["key"]
        disk["child"] = os.getpid()
        grandchild = in_a_child(lambda: disk["child"])
        return found, disk["child"] == os.getpid(), grandchild == str(os.getpid())

    assert in_a_child(child) == "('parent', True, True)"
    assert "child" in disk
    disk["key"] = "again"
    assert in_a_child(lambda: disk["key"]) == "again"
    assert in_a_child(lambda: (disk.close(), len(list(Lmdb(disk.directory))))) == "(None, 2)"
    assert disk["key"] == "again"


def test_a_child_keeps_its_snapshot(disk):
    """Overwriting in the parent does not reach into what a child is reading (Fault 12)."""
    disk.put_many({n: bytes([n]) * 5000 for n in range(100)})
    first_ready, first_go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        env = disk._environment
        wrong = 0
        len(disk)
        with env.reading() as txn:
            os.write(first_ready[1], b"x")
            os.read(first_go[0], 1)
            with txn.cursor(env.data) as cursor:
                for _, record in cursor:
                    payload = bytes(record[-5000:])
                    wrong += payload != payload[:1] * 5000 or payload[0] >= 100
        os._exit(wrong)
    os.read(first_ready[0], 1)
    for _ in range(30):
        disk.put_many({n: bytes([n + 100]) * 5000 for n in range(100)})
    os.write(first_go[1], b"x")
    assert os.waitpid(pid, 0)[1] == 0
    for end in (*first_ready, *first_go):
        os.close(end)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_among_busy_threads(disk):
    """A fork waits for those inside; reads and writes of other threads go on (Fault 13)."""
    disk.put_many({n: n for n in range(100)})
    stop = threading.Event()
    failures = []

    def busy(seed):
        rng = random.Random(seed)
        while not stop.is_set():
            try:
                key = rng.randrange(100)
                if rng.random() < 0.3:
                    disk[key] = key
                assert disk[key] == key
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=busy, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert in_a_child(lambda: sum(disk.get_many(range(100)).values())) == "4950"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_fork_from_inside_a_read(open_disk, monkeypatch):
    """A decoder that forks: the child is told clearly, the parent goes on (Fault 13)."""
    from hybridcore import Codec, Codecs
    from hybridcore.disk import environment

    monkeypatch.setattr(environment, "_FORK_DRAIN_SECONDS", 0.01)

    class Forks:
        pass

    children = []

    def decode(_):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                disk["plain"]
                said = "read"
            except BaseException as error:
                said = type(error).__name__ + str(error)
            os.write(writer, said.encode())
            os._exit(0)
        os.waitpid(pid, 0)
        children.append(os.read(reader, 1000).decode())
        os.close(reader)
        os.close(writer)
        return Forks()

    disk = open_disk(codecs=Codecs(Codec(64, Forks, lambda _: b"", decode)))
    disk["key"] = Forks()
    disk["plain"] = 1
    assert isinstance(disk["key"], Forks)
    assert disk["plain"] == 1
    (said,) = children
    assert said.startswith("DiskError")
    assert "start processes with spawn" in said


def work_on(directory, seed, keys):
    rng = random.Random(seed)
    wrong = 0
    with Lmdb(directory, max_bytes="1MiB") as disk:
        for _ in range(400):
            key = rng.randrange(keys)
            if rng.random() < 0.5:
                disk[key] = [key, "x" * rng.randrange(3000)]
            else:
                found = disk.get(key, [key])
                wrong += found[0] != key
            if rng.random() < 0.05:
                disk.delete_many(range(key, key + 5))
        stats = disk.stats()
    return wrong, stats.damaged, stats.used_bytes <= stats.max_bytes


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_several_processes_share_a_directory(tmp_path, method):
    """Processes read, write, delete and evict at the same time, and no value is mixed up."""
    context = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        jobs = [(str(tmp_path / "cache"), seed, 600) for seed in range(4)]
        results = pool.starmap(work_on, jobs)
        pool.close()
        pool.join()
    assert results == [(0, 0, True)] * 4
    assert verify(str(tmp_path / "cache"), subdir=True) == []


def test_a_reader_that_died_pins_nothing(open_disk):
    """Slots of killed readers are given free, so the file does not grow (Fault 11)."""
    disk = open_disk(max_bytes="1MiB")
    disk["key"] = 1
    pid = os.fork()
    if pid == 0:
        with Lmdb(disk.directory)._environment.reading():
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    for number in range(20_000):
        disk[number % 100] = b"x" * 1000
    assert disk.stats().file_bytes < 3 << 20
