"""What may happen to a directory and to those who use it, and what is left afterwards."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from lmdb.verify import verify

from hybridcore import ClosedError, DiskError, Lmdb
from hybridcore.disk.durability import line

DAY = 86_400


def run(program, *arguments, timeout=100):
    """Run a program in another interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# -- kill -9 ------------------------------------------------------------------------------

KILLS = """
    # Rounds of three processes that are killed at random moments. Two write, each its own keys;
    # the third deletes some of its own, and in every other round makes all three lose entries.
    # What a process was told is done comes back through a pipe: "key sequence deleted" a line.
    import json, os, random, signal, sys, time
    from lmdb.verify import verify
    from hybridcore import Lmdb

    directory, rounds = sys.argv[1], int(sys.argv[2])
    rng = random.Random(20261122)

    def value(key, sequence):
        return [list(key), sequence, chr(97 + sequence % 26) * (sequence * 37 % 3000)]

    def work(who, number, evicting, say):
        rng = random.Random(number * 3 + who)
        # The one that evicts has a smaller map too, so that maps are resized all the time.
        with Lmdb(directory, max_bytes="512KiB" if evicting and who == 2 else "64MiB") as disk:
            os.write(say, b"open\\n")
            sequence = number * 100_000
            while True:
                sequence += 1
                keys = {(who, rng.randrange(300)) for _ in range(rng.choice((1, 1, 8)))}
                deletes = who == 2 and rng.random() < 0.2
                if deletes:
                    disk.delete_many(keys)
                elif len(keys) == 1:
                    disk[min(keys)] = value(min(keys), sequence)
                else:
                    disk.put_many({key: value(key, sequence) for key in keys})
                acks = [f"{name} {sequence} {deletes:d}\\n" for _, name in keys]
                os.write(say, "".join(acks).encode())

    def start(*arguments):
        hear, say = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                work(*arguments, say)
            except BaseException as error:
                os.write(2, repr(error).encode())
            os._exit(1)
        os.close(say)
        return pid, os.fdopen(hear)

    told = {}  # key -> the sequence of what was acknowledged last
    there = set()  # keys that were written last, and not by the one that deletes
    kills = writes = kept = gone = 0
    wrong = []
    for number in range(rounds):
        evicting = number % 2 == 1
        children = [start(who, number, evicting) for who in range(3)]
        for _, pipe in children:
            assert pipe.readline() == "open\\n"
        deadlines = sorted((time.monotonic() + rng.uniform(0.002, 0.1), n) for n in range(3))
        for deadline, who in deadlines:
            time.sleep(max(0, deadline - time.monotonic()))
            os.kill(children[who][0], signal.SIGKILL)
        for who, (pid, pipe) in enumerate(children):
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
            kills += 1
            with pipe:
                for said in pipe.read().splitlines(keepends=True):
                    if said.endswith("\\n"):
                        name, sequence, deleted = map(int, said.split())
                        told[who, name] = sequence
                        writes += 1
                        if who < 2:
                            there.add((who, name))
        with Lmdb(directory, max_bytes="64MiB") as disk:
            if disk._environment.discarded:
                wrong.append("discarded")
            found = disk.get_many(told)
            for key, sequence in told.items():
                if key not in found:
                    gone += key in there
                    if key in there and not evicting:
                        wrong.append(f"lost {key} {sequence}")
                    continue
                kept += 1
                if found[key] != value(key, found[key][1]):
                    wrong.append(f"torn {key}")
                if found[key][1] < sequence:
                    wrong.append(f"stale {key}: {found[key][1]} instead of {sequence}")
            there &= set(found)
            if len(list(disk.items())) != len(disk):
                wrong.append("entries that cannot be read")
            if disk.stats().damaged:
                wrong.append("damaged")
        wrong += verify(directory, subdir=True)
        if wrong:
            break
    print(json.dumps(dict(kills=kills, writes=writes, kept=kept, evicted=gone, wrong=wrong)))
"""


@pytest.mark.slow
def test_200_kills(tmp_path):
    """Two writers and one that evicts and deletes, killed 200 times at random moments: each time
    LMDB's own verifier is content, no value is torn, none comes back from the past, and what was
    acknowledged and not evicted is there (Faults 1 and 4)."""
    said = json.loads(run(KILLS, tmp_path / "cache", 67))
    assert said["wrong"] == []
    assert said["kills"] == 201
    assert said["writes"] > 2000
    assert said["kept"] > 2000
    assert said["evicted"] > 100


def test_killed_among_four_processes(tmp_path):
    """Of four processes one dies inside a write transaction; the others write on within a
    second, and so do processes that come later (Fault 4)."""
    directory = tmp_path / "cache"
    with Lmdb(directory) as disk:
        disk["key"] = 0
        inside_read, inside_write = os.pipe()
        victim = os.fork()
        if victim == 0:

            def die(txn):
                os.write(inside_write, b"x")
                signal.pause()

            disk._environment.write(die)
            os._exit(1)
        os.read(inside_read, 1)
        others = []
        for number in range(3):
            pid = os.fork()
            if pid == 0:
                disk.get("key")
                disk[number] = number
                os._exit(0)
            others.append(pid)
        time.sleep(0.1)
        assert os.waitpid(-1, os.WNOHANG) == (0, 0)  # they wait for the writer lock
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        for pid in others:
            assert os.waitpid(pid, 0)[1] == 0
        assert time.monotonic() - killed < 1
        os.waitpid(victim, 0)
        assert disk.get_many(range(3)) == {0: 0, 1: 1, 2: 2}
    os.close(inside_read)
    os.close(inside_write)
    assert verify(str(directory), subdir=True) == []


# -- readers ------------------------------------------------------------------------------


@pytest.fixture
def few_readers(monkeypatch, open_disk):
    """A directory with room for four reads at a time."""
    monkeypatch.setattr("hybridcore.disk.opening._MAX_READERS", 4)
    disk = open_disk()
    disk["key"] = 1
    return disk


def test_readers_full(few_readers):
    """When live readers have all slots, a read says so, and works again when one is gone."""
    disk = few_readers
    begin = disk._environment._env.begin
    held = [begin() for _ in range(4)]
    for read in (lambda: disk["key"], lambda: disk.get_many(["key"]), lambda: len(disk)):
        with pytest.raises(DiskError, match=r"all 4 reader slots .* are taken by live processes"):
            read()
    disk["written"] = 2  # a writer needs no slot
    held.pop().abort()
    assert disk["written"] == 2
    for txn in held:
        txn.abort()


def test_slots_of_the_dead(few_readers):
    """Slots of killed readers are taken back when there is no other left."""
    disk = few_readers
    pid = os.fork()
    if pid == 0:
        held = [disk._environment.reading() for _ in range(3)]
        for reading in held:
            reading.__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    begin = None
    assert disk["key"] == 1
    begin = disk._environment._env.begin
    held = [begin() for _ in range(3)]
    assert disk["key"] == 1
    for txn in held:
        txn.abort()


# -- space --------------------------------------------------------------------------------

FULL = """
    import subprocess, sys
    from lmdb.verify import verify
    from hybridcore import DiskError, Lmdb

    place, durability = sys.argv[1:3]
    with Lmdb(place + "/cache", max_bytes="64MiB", durability=durability) as disk:
        kept = {}
        try:
            while True:
                key = len(kept)
                disk[key] = bytes([key % 256]) * 10_000
                kept[key] = bytes([key % 256]) * 10_000
        except DiskError as error:
            print(type(error).__name__, len(kept) > 100)
        assert disk.get_many(kept) == kept
        try:
            disk.backup(place + "/backup")
        except DiskError:
            print("no backup")
        try:
            disk.compact()
        except DiskError:
            print("not compacted")
        assert disk.get_many(kept) == kept
        assert disk.verify() == []
        subprocess.run(["mount", "-o", "remount,size=32m", place], check=True)
        disk["more"] = b"x" * 100_000
        assert disk["more"] == b"x" * 100_000
        assert disk.get_many(kept) == kept
        disk.delete_many(range(0, 100))
        disk.backup(place + "/backup")
    assert verify(place + "/cache", subdir=True) == []
    with Lmdb(place + "/backup", max_bytes="64MiB") as disk:
        print(len(disk) == len(kept) - 99)
"""


@pytest.mark.parametrize("durability", ["process", "power"])
def test_a_small_disk_that_is_full(tmp_path, durability):
    """A full disk is a DiskError; what was acknowledged is there, and writes go on when there is
    room again. Half a backup or compaction leaves nothing behind (Fault 5)."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        said = run(FULL, place, durability).splitlines()
    finally:
        subprocess.run(["umount", str(place)], check=True)
    assert said == ["DiskError True", "no backup", "not compacted", "True"]


def test_a_disk_without_room_for_anything(tmp_path):
    """Opening a directory on a full disk is a clear error, and leaves the process alive."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    program = """
        import sys
        from hybridcore import DiskError, Lmdb
        open(sys.argv[1] + "/ballast", "wb").write(bytes(48 << 10))
        try:
            Lmdb(sys.argv[1] + "/cache")
        except DiskError as error:
            print("refused")
    """
    try:
        assert run(program, place) == "refused\n"
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_64_mebibytes(open_disk):
    """Values of no bytes, one byte and 64 MiB are stored and come back (Fault 28)."""
    disk = open_disk(max_bytes="100MiB")
    large = os.urandom(1 << 20) * 64
    disk.put_many({"": b"", b"": b"x"})
    disk["large"] = large
    assert (disk[""], disk[b""]) == (b"", b"x")
    assert disk["large"] == large
    disk["large"] = b"small"
    assert disk["large"] == b"small"


# -- time ---------------------------------------------------------------------------------


def test_clocks_a_day_apart(tmp_path):
    """Processes whose clocks are a day apart share a directory: to one that is ahead an entry
    expires earlier, to one that is behind later, but with no more than its ttl left; what lasts
    is there for both (Fault 10)."""
    program = """
        import sys, time
        from hybridcore import Lmdb
        offset = int(sys.argv[2]) * 86_400 * 10**9
        now = [0]
        clock = lambda: time.time_ns() + offset + now[0]
        with Lmdb(sys.argv[1], clock=clock) as disk:
            if sys.argv[3] == "write":
                disk.put("short", offset, ttl=60)
                disk.put("long", offset, ttl="3d")
                disk["lasting"] = offset
            else:
                print(disk.get("short") is not None, disk.get("long") is not None,
                      disk.get("lasting") is not None)
                left = disk.fetch("short")
                print(left is None or left.ttl_left < 60.001)
                now[0] = 61 * 10**9 + 86_400 * 10**9
                print(disk.get("short"))
            disk.expire()
            disk["after"] = offset
    """
    for writer, reader in ((1, 0), (0, 1), (0, 0), (-1, 1)):
        directory = tmp_path / f"cache{writer}{reader}"
        run(program, directory, writer, "write")
        fresh, bounded, later = run(program, directory, reader, "read").splitlines()
        assert fresh == f"{reader <= writer} True True"
        assert (bounded, later) == ("True", "None")


# -- the process --------------------------------------------------------------------------


def test_exit_with_the_tier_open(tmp_path):
    """An interpreter that ends without closing closes by itself, in silence (Fault 14)."""
    program = """
        import sys
        from hybridcore import Lmdb
        disk = Lmdb(sys.argv[1])
        disk["key"] = 1
        disk.put("short", 1, ttl=60)
    """
    run(program, tmp_path / "cache")
    assert (tmp_path / "cache" / "state").read_bytes() == line(dirty=False)
    with Lmdb(tmp_path / "cache") as disk:
        assert disk["key"] == 1


def test_exit_among_daemon_threads(tmp_path):
    """So it does while threads that nobody waits for still read and write (Fault 14)."""
    program = """
        import sys, threading
        from hybridcore import ClosedError, Lmdb
        disk = Lmdb(sys.argv[1])
        started = threading.Barrier(4)
        def use(number):
            started.wait()
            try:
                while True:
                    disk[number] = number
                    assert disk[number] == number
            except ClosedError:
                pass
        for number in range(3):
            threading.Thread(target=use, args=(number,), daemon=True).start()
        started.wait()
        disk["key"] = 1
    """
    for _ in range(3):
        run(program, tmp_path / "cache")
        assert verify(str(tmp_path / "cache"), subdir=True) == []
    with Lmdb(tmp_path / "cache") as disk:
        assert disk["key"] == 1


def test_exit_of_a_forked_child(tmp_path):
    """A child that ends normally leaves the directory to its parent."""
    program = """
        import os, sys
        from hybridcore import Lmdb
        disk = Lmdb(sys.argv[1])
        disk["key"] = 1
        if (pid := os.fork()) == 0:
            disk["child"] = 2
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert disk["child"] == 2
        disk["key"] = 3
    """
    run(program, tmp_path / "cache")
    assert (tmp_path / "cache" / "state").read_bytes() == line(dirty=False)
    with Lmdb(tmp_path / "cache") as disk:
        assert dict(disk) == {"key": 3, "child": 2}


def test_sub_interpreters_are_refused(tmp_path):
    """A second interpreter in the process cannot import hybridcore and is told so; the first
    goes on (Fault 15)."""
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    pytest.importorskip(name)
    assert importlib.util.find_spec(name) is not None
    program = f"""
        import sys
        import {name} as interpreters
        from hybridcore import Lmdb
        disk = Lmdb(sys.argv[1])
        code = '''if True:
            try:
                import hybridcore
                hybridcore.Lmdb({str(tmp_path / "cache")!r})
            except ImportError as error:
                print("refused:", error)
            '''
        other = interpreters.create()
        failed = interpreters.run_string(other, code)
        assert failed is None, failed
        interpreters.destroy(other)
        disk["key"] = 1
        print(disk["key"])
    """
    said = run(program, tmp_path / "cache").splitlines()
    assert said[0].startswith("refused:")
    assert said[-1] == "1"


def test_close_while_others_use_it(open_disk):
    """Whoever closes its own tier takes nothing from those that others opened (Fault 16)."""
    kept, closed = open_disk(), [open_disk() for _ in range(20)]
    kept["key"] = 1
    stop = threading.Event()
    failures = []

    def use():
        while not stop.is_set():
            try:
                kept["key"] = kept["key"]
            except BaseException as error:
                failures.append(error)
                return

    def use_until_closed(disk):
        try:
            while True:
                assert disk["key"] == 1
                disk["key"] = 1
        except ClosedError:
            return
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use)]
    threads += [threading.Thread(target=use_until_closed, args=(disk,)) for disk in closed[:4]]
    for thread in threads:
        thread.start()
    for disk in reversed(closed):
        disk.close()
    for thread in threads[1:]:
        thread.join(30)
    stop.set()
    threads[0].join(30)
    assert failures == []
    assert kept["key"] == 1


def test_clear_over_damage(open_disk):
    """Clearing needs none of the pages it removes: damage in them cannot end the process, and
    what comes after is whole (Fault 8)."""
    disk = open_disk()
    disk.put_many({n: bytes(n * 5) for n in range(1000)})
    version = disk.fetch(999).version
    disk.close()
    file = disk.directory / "data.mdb"
    pages = file.stat().st_size // 4096
    with file.open("r+b") as stream:
        for page in range(pages // 3, pages // 2):
            stream.seek(page * 4096)
            stream.write(os.urandom(4096))
    disk = open_disk()
    disk.clear()
    assert len(disk) == 0
    assert disk.verify() == []
    disk["key"] = 1
    assert disk.fetch("key").version > version
