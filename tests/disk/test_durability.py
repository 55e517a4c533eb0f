"""What each mode of durability loses, and what is done with a whole data file."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading

import pytest
from lmdb.verify import verify

from hybridcore import ConfigurationError, DiskError, Lmdb
from hybridcore.disk import durability as durabilities
from hybridcore.disk import environment as environments
from hybridcore.disk import upkeep
from hybridcore.disk.durability import line

ELSEWHERE = "01234567-89ab-cdef-0123-456789abcdef"


def state(disk):
    return (disk.directory / "state").read_bytes()


def lose_power(disk):
    """Put the directory in the state that it has when the machine goes down and up again."""
    assert state(disk) == line(dirty=True)
    (disk.directory / "state").write_bytes(line(dirty=True, boot=ELSEWHERE))


def elsewhere(directory, code, **options):
    """Run code with an open ``disk`` in another process; return what it printed."""
    program = (
        f"import sys; from hybridcore import Lmdb\nwith Lmdb(sys.argv[1], **{options}) as disk: "
    )
    done = subprocess.run(
        [sys.executable, "-c", program + code, str(directory)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.fixture
def other(tmp_path):
    """Another process that has the directory open until it is told to close."""
    code = (
        "import sys; from hybridcore import Lmdb\n"
        "disk = Lmdb(sys.argv[1], durability=sys.argv[2])\n"
        "print('open', flush=True)\n"
        "for command in sys.stdin:\n"
        "    exec(command)\n"
        "    print('done', flush=True)\n"
    )
    processes = []

    class Other:
        def __init__(self, directory, durability="process"):
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, str(directory), durability],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            processes.append(self.process)
            assert self.process.stdout.readline() == "open\n"

        def __call__(self, command):
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
            assert self.process.stdout.readline() == "done\n"

        def end(self, signal=None):
            if signal is None:
                self.process.stdin.close()
            else:
                self.process.send_signal(signal)
            self.process.wait(30)
            self.process.stdout.close()

    yield Other
    for process in processes:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_an_unknown_mode(tmp_path):
    """A mode that there is not is refused before anything is made."""
    with pytest.raises(ConfigurationError, match="'none', 'process' or 'power', got 'fsync'"):
        Lmdb(tmp_path / "cache", durability="fsync")
    assert not (tmp_path / "cache").exists()


# -- the state ----------------------------------------------------------------------------


def test_dirty_from_the_first_write_to_the_last_close(open_disk):
    """The state says whether there may be unsynced writes; reading changes nothing."""
    disk = open_disk()
    disk["key"] = 1
    assert state(disk) == line(dirty=True)
    disk.close()
    assert state(disk) == line(dirty=False)
    disk = open_disk()
    assert disk["key"] == 1
    assert state(disk) == line(dirty=False)
    disk["key"] = 2
    assert state(disk) == line(dirty=True)
    disk.sync()
    assert state(disk) == line(dirty=False)
    disk.delete("key")
    assert state(disk) == line(dirty=True)
    disk.clear()
    disk.sync()
    disk.clear()
    assert state(disk) == line(dirty=True)


def test_after_a_power_failure(open_disk, caplog):
    """Entries that a power failure may have spoiled are discarded, with a word in the log."""
    disk = open_disk()
    disk["key"] = 1
    disk.close()
    again = open_disk()
    again["key"] = 2
    lose_power(again)
    shutil.copytree(again.directory, disk.directory.parent / "failed")
    with caplog.at_level(logging.WARNING, "hybridcore.disk"):
        disk = open_disk("failed")
    assert list(disk) == []
    assert disk._environment.discarded
    assert "discarded the entries" in caplog.text
    disk["key"] = 3
    assert disk["key"] == 3
    disk.close()
    assert dict(open_disk("failed")) == {"key": 3}


def test_a_clean_directory_is_kept(open_disk, caplog):
    """After a close or a sync a power failure spoils nothing: another boot finds all of it."""
    disk = open_disk()
    disk["key"] = 1
    disk.sync()
    shutil.copytree(disk.directory, disk.directory.parent / "failed")
    again = open_disk("failed")
    assert again["key"] == 1
    assert not again._environment.discarded
    assert caplog.text == ""


def test_after_a_kill(tmp_path, other):
    """What a killed process wrote is kept: this boot's pages are in the system's hands."""
    killed = other(tmp_path / "cache")
    killed("disk['key'] = 1")
    killed.end(9)
    with Lmdb(tmp_path / "cache") as disk:
        assert state(disk) == line(dirty=True)
        assert disk["key"] == 1
    assert state(disk) == line(dirty=False)  # who came last made up for it


@pytest.mark.parametrize("content", [None, b"", bytes(71), line(dirty=True)[:40]])
def test_a_state_that_was_lost(open_disk, content):
    """Without its state nothing tells whether the entries are whole, so they are discarded."""
    disk = open_disk()
    disk["key"] = 1
    disk.close()
    file = disk.directory / "state"
    file.unlink() if content is None else file.write_bytes(content)
    disk = open_disk()
    assert len(disk) == 0
    disk["key"] = 2
    assert state(disk) == line(dirty=True)


def test_a_state_with_a_flipped_bit(open_disk):
    """A state whose checksum does not fit is as good as lost."""
    disk = open_disk()
    disk["key"] = 1
    disk.close()
    (disk.directory / "state").write_bytes(line(dirty=False).replace(b"clean", b"cleam"))
    assert len(open_disk()) == 0


@pytest.mark.parametrize("content", [b"x", b"hybridcore state 2 clean", b"mine" * 1000])
def test_a_foreign_state_is_left_alone(open_disk, content):
    """A file ``state`` that is not this version's is refused and kept, as is all beside it."""
    disk = open_disk()
    disk["key"] = 1
    disk.close()
    (disk.directory / "state").write_bytes(content)
    before = (disk.directory / "data.mdb").read_bytes()
    with pytest.raises(DiskError, match="later version"):
        open_disk()
    assert (disk.directory / "state").read_bytes() == content
    assert (disk.directory / "data.mdb").read_bytes() == before


def test_the_last_of_several_processes(tmp_path, other):
    """Who closes while others write leaves their writes to them."""
    one, two = other(tmp_path / "cache"), other(tmp_path / "cache")
    one("disk['one'] = 1")
    two("disk['two'] = 2")
    one.end()
    file = tmp_path / "cache" / "state"
    assert file.read_bytes() == line(dirty=False)  # all of it was synced
    two("disk['two'] = 3")
    assert file.read_bytes() == line(dirty=True)
    two.end()
    assert file.read_bytes() == line(dirty=False)


def test_a_reader_syncs_nothing_for_others(tmp_path, other):
    """Closing without having written leaves a state alone that somebody else answers for."""
    writer, reader = other(tmp_path / "cache"), other(tmp_path / "cache")
    writer("disk['key'] = 1")
    reader("disk.get('key')")
    reader.end()
    assert (tmp_path / "cache" / "state").read_bytes() == line(dirty=True)


def test_a_spoiled_directory_is_discarded_once(tmp_path, open_disk, other):
    """Of several processes that open it after a power failure, the first discards."""
    disk = open_disk()
    disk["key"] = 1
    disk.close()
    (disk.directory / "state").write_bytes(line(dirty=True, boot=ELSEWHERE))
    first = other(disk.directory)
    first("disk['first'] = 1")
    second = open_disk()
    assert dict(second) == {"first": 1}
    assert not second._environment.discarded


def test_who_was_to_discard_dies(open_disk):
    """Whoever waits for a process that is about to discard takes over when that one dies."""
    disk = open_disk()
    disk["key"] = 1
    disk.close()
    (disk.directory / "state").write_bytes(line(dirty=True, boot=ELSEWHERE))
    first = durabilities.State(disk.directory, "process")
    assert first.claim()
    opened = []
    second = threading.Thread(target=lambda: opened.append(open_disk()))
    second.start()
    second.join(0.1)
    assert second.is_alive()
    first.close()
    second.join(30)
    assert list(opened[0]) == []
    assert opened[0]._environment.discarded


def test_who_does_not_let_it_be_discarded(open_disk, monkeypatch):
    """Spoiled entries are not trusted because somebody has them open: that is an error."""
    monkeypatch.setattr(environments, "_SPOILED_SECONDS", 0.05)
    disk = open_disk()
    disk["key"] = 1
    disk.close()
    (disk.directory / "state").write_bytes(line(dirty=True, boot=ELSEWHERE))
    other = durabilities.State(disk.directory, "process")
    other.share()
    with pytest.raises(DiskError, match="may have been spoiled"):
        open_disk()
    other.close()
    assert list(open_disk()) == []


def test_systems_without_a_boot_id(monkeypatch, tmp_path):
    """Where the system tells no boot id, a boot is unlike any other."""
    monkeypatch.setattr(durabilities, "Path", lambda _: tmp_path / "nothing")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: (_ for _ in ()).throw(OSError))
    unknown = durabilities.boot_id.__wrapped__
    assert len(unknown()) == 36
    assert unknown() != unknown()


def test_systems_without_flock(open_disk, monkeypatch):
    """Where nobody can be sure to be alone nothing is discarded, and all else works."""
    monkeypatch.setattr(durabilities, "CAN_LOCK", False)
    disk = open_disk(durability="none")
    disk["key"] = 1
    assert state(disk) == line(dirty=True)
    disk.close()
    (disk.directory / "state").write_bytes(line(dirty=True, boot=ELSEWHERE))
    disk = open_disk()
    assert disk["key"] == 1
    with pytest.raises(DiskError, match="cannot be compacted"):
        disk.compact()
    disk.clear()
    disk["key"] = 2
    disk.close()
    assert dict(open_disk()) == {"key": 2}


# -- scratch ------------------------------------------------------------------------------


def test_scratch_is_found_empty(open_disk):
    """The first process to open scratch finds nothing; its own openings share what it has."""
    disk = open_disk(durability="none")
    disk["key"] = 1
    assert open_disk(durability="none")["key"] == 1
    disk.close()
    assert open_disk(durability="none")["key"] == 1
    assert disk.directory.exists()


def test_scratch_of_several_processes(tmp_path, other):
    """Those that come later find what is there; when all have left it is gone."""
    one = other(tmp_path / "cache", "none")
    one("disk['key'] = 1")
    two = other(tmp_path / "cache", "none")
    two("assert disk['key'] == 1")
    one.end(9)
    two("assert disk['key'] == 1")
    two.end()
    with Lmdb(tmp_path / "cache", durability="none") as disk:
        assert list(disk) == []


def test_scratch_over_damage(open_disk):
    """Scratch does not look at what it throws away."""
    disk = open_disk()
    disk["key"] = 1
    disk.close()
    with (disk.directory / "data.mdb").open("r+b") as stream:
        stream.truncate(5000)
    assert len(open_disk(durability="none")) == 0


def test_scratch_survives_a_kill_for_others(tmp_path, other):
    """A directory left by killed scratch is whole for whoever opens it for longer."""
    scratch = other(tmp_path / "cache", "none")
    scratch("disk['key'] = 1")
    scratch.end(9)
    with Lmdb(tmp_path / "cache") as disk:
        assert disk["key"] == 1


def test_scratch_keeps_somebody_elses_directory(tmp_path):
    """Scratch empties its own directories only."""
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "data.mdb").write_bytes(b"not lmdb" * 2000)
    with pytest.raises(DiskError, match="not an LMDB"):
        Lmdb(tmp_path / "theirs", durability="none")
    assert (tmp_path / "theirs" / "data.mdb").read_bytes() == b"not lmdb" * 2000


def test_scratch_and_forks(open_disk):
    """A fork leaves scratch as it is, for parent and child, whoever uses it first."""
    disk = open_disk(durability="none")
    disk["key"] = 1
    for _ in range(2):
        pid = os.fork()
        if pid == 0:
            os._exit(disk.get("key", 99))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
        assert disk["key"] == 1


def test_scratch_outlives_the_parent(open_disk, tmp_path):
    """The child has it open too: it stays when the parent has closed it."""
    disk = open_disk(durability="none")
    disk["key"] = 1
    go_read, go_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(go_read, 1)
        os._exit(disk.get("key", 99))
    disk.close()
    assert open_disk(durability="none")["key"] == 1
    os.write(go_write, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    os.close(go_read)
    os.close(go_write)


# -- several modes ------------------------------------------------------------------------


def test_the_stronger_of_two_modes_in_a_process(open_disk):
    """All openings of one process lose no more than each of them asked for."""
    scratch = open_disk(durability="none")
    scratch["key"] = 1
    lasting = open_disk(durability="process")
    assert scratch["key"] == 1
    strict = open_disk(durability="power")
    assert strict["key"] == 1
    strict["key"] = 2
    assert state(strict) == line(dirty=False)
    scratch["key"] = 3
    assert state(strict) == line(dirty=False)
    for disk in (scratch, lasting, strict):
        disk.close()
    assert open_disk()["key"] == 3


def test_modes_of_several_processes(tmp_path, other, open_disk):
    """What one process leaves unsynced, a stricter one syncs with its next write."""
    strict = open_disk(durability="power")
    strict["a"] = 1
    assert state(strict) == line(dirty=False)
    lax = other(strict.directory)
    lax("disk['b'] = 2")
    assert state(strict) == line(dirty=True)
    strict["c"] = 3
    assert state(strict) == line(dirty=False)
    lax("disk['d'] = 4")
    assert state(strict) == line(dirty=True)
    lax.end(9)
    strict.close()
    assert state(strict) == line(dirty=False)


# -- what reaches the disk, and when ------------------------------------------------------

CALLS = re.compile(r"(?P<call>\w+)\((?P<rest>.*)")


@pytest.fixture
def traced(tmp_path):
    """Runs code under strace; returns the system calls about files, in order."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")

    def run(durability, code):
        program = (
            "import os, sys; from hybridcore import Lmdb\n"
            f"disk = Lmdb(sys.argv[1], durability={durability!r})\n"
            "say = lambda text: os.write(1, text)\n" + code
        )
        log = tmp_path / "strace.log"
        watched = "fsync,fdatasync,msync,pwrite64,pwritev,write,writev,openat"
        command = ["strace", "-f", "-y", "-o", str(log), "-e", f"trace={watched}"]
        done = subprocess.run(
            [*command, sys.executable, "-c", program, str(tmp_path / "cache")],
            capture_output=True,
            text=True,
            timeout=60,
        )
        if "Operation not permitted" in done.stderr and "ptrace" in done.stderr:
            pytest.skip("this process may not trace others")
        assert done.returncode == 0, done.stderr
        calls = []
        dsynced = set()
        for text in log.read_text().splitlines():
            found = CALLS.match(text.split(maxsplit=1)[1])
            if found is None or ("/cache" not in text and "write(1<" not in text):
                continue
            call, rest = found["call"], found["rest"]
            file = "cache" if rest.rstrip().endswith("/cache>) = 0") else ""
            for name in ("data.mdb", "state", "lock.mdb"):
                if f"/cache/{name}" in rest:
                    file = name
            if call == "openat" and "O_DSYNC" in rest:
                dsynced.add(rest.rsplit("= ", 1)[1].split("<")[0])
            elif call == "write" and rest.startswith("1<"):
                calls.append(("said", rest.split('"')[1]))
            elif call.startswith(("pwrite", "write")):
                synced = rest.split("<")[0] in dsynced
                calls.append(("write and sync" if synced else "write", file))
            elif call != "openat":
                calls.append(("sync", file))
        return calls

    return run


def between(calls, first, second):
    said = [what for kind, what in calls if kind == "said"]
    assert said.count(first) == said.count(second) == 1
    return calls[calls.index(("said", first)) + 1 : calls.index(("said", second))]


def test_power_syncs_each_commit(traced):
    """With ``"power"`` a write returns when its pages, and then the page that makes them count,
    are on the disk (Fault 7)."""
    calls = traced(
        "power",
        "disk['warm'] = 0\nsay(b'0')\ndisk['a'] = 1\nsay(b'1')\ndisk.delete('a')\nsay(b'2')\n"
        "disk.put_many({n: n for n in range(10)})\nsay(b'3')\n",
    )
    for first in "012":
        commit = between(calls, first, chr(ord(first) + 1))
        assert set(commit) <= {
            ("write", "data.mdb"),
            ("sync", "data.mdb"),
            ("write and sync", "data.mdb"),
        }
        assert commit[-1] == ("write and sync", "data.mdb")
        assert commit[-2] == ("sync", "data.mdb")
        assert commit[0] == ("write", "data.mdb")


def test_process_syncs_the_mark_first(traced):
    """With ``"process"`` the mark is on the disk before a page is written that it tells of, and
    writes after the first sync nothing."""
    calls = traced(
        "process",
        "disk['a'] = 1\ndisk.sync()\nsay(b'0')\ndisk['a'] = 2\nsay(b'1')\n"
        "for n in range(20): disk[n] = n\nsay(b'2')\n",
    )
    again = between(calls, "0", "1")
    assert again[:2] == [("write", "state"), ("sync", "state")]
    assert set(again[2:]) == {("write", "data.mdb")}
    assert set(between(calls, "1", "2")) == {("write", "data.mdb")}
    closing = calls[calls.index(("said", "2")) + 1 :]
    assert ("sync", "data.mdb") in closing
    assert closing.index(("sync", "data.mdb")) < closing.index(("write", "state"))
    assert closing[-1] == ("sync", "state")


def test_scratch_never_syncs(traced):
    """With ``"none"`` nothing waits for the disk, not even closing."""
    calls = traced("none", "for n in range(50): disk[n] = n\ndisk.sync()\ndisk.close()\n")
    assert ("write", "data.mdb") in calls
    assert {kind for kind, _ in calls} == {"write"}


# -- verify, compact, back up -------------------------------------------------------------


def test_verify(open_disk):
    """A whole file has no problems; zeroed pages are told of."""
    disk = open_disk()
    disk.put_many({n: bytes(500) for n in range(500)})
    assert disk.verify() == []
    disk.sync()
    size = (disk.directory / "data.mdb").stat().st_size
    with (disk.directory / "data.mdb").open("r+b") as stream:
        stream.seek(size // 2 // 4096 * 4096)
        stream.write(bytes(8192))
    problems = disk.verify()
    assert problems
    assert all(isinstance(problem, str) for problem in problems)


def test_verify_among_writers(open_disk, other):
    """Others may write meanwhile, in this process and another: no false alarm."""
    disk = open_disk()
    disk.put_many({n: bytes(2000) for n in range(1000)})
    busy = other(disk.directory)
    busy.process.stdin.write(
        "for n in range(300): disk.put_many({(n + m) % 1000: b'x' * 3000 for m in range(20)})\n"
    )
    busy.process.stdin.flush()
    stop = threading.Event()

    def write():
        n = 0
        while not stop.is_set():
            disk[n % 700] = b"y" * (n % 5000)
            n += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert [disk.verify() for _ in range(8)] == [[]] * 8
    finally:
        stop.set()
        writer.join()
    busy.process.stdout.readline()


def test_verify_looks_twice(disk, monkeypatch):
    """What looks like damage is looked at again while writers wait."""
    from lmdb import verify as module

    disk["key"] = 1
    real, looked = module.verify, []

    def half_seen(*arguments, **options):
        looked.append(disk["key"])
        if len(looked) == 1:
            disk["key"] = 2
            return ["half seen"]
        writer = threading.Thread(target=disk.put, args=("key", 3))
        writer.start()
        looked.append(writer)
        writer.join(0.05)
        assert disk["key"] == 2
        return real(*arguments, **options)

    monkeypatch.setattr(module, "verify", half_seen)
    assert disk.verify() == []
    looked[2].join()
    assert disk["key"] == 3
    assert looked[:2] == [1, 2]


def test_compact(open_disk):
    """The file shrinks to what is in it, and everything goes on, across forks and openings."""
    disk = open_disk(max_bytes="16MiB")
    disk.put_many({n: bytes(4000) for n in range(2000)})
    disk.delete_many(range(1, 2000))
    disk.put("late", 1, ttl=60)
    version = disk.fetch("late").version
    before = disk.stats().file_bytes
    assert disk.compact() == before - disk.stats().file_bytes > 4 << 20
    assert state(disk) == line(dirty=False)
    assert dict(disk) == {0: bytes(4000), "late": 1}
    disk["later"] = 2
    assert disk.fetch("later").version > version
    assert open_disk()["later"] == 2
    assert elsewhere(disk.directory, "print(disk['later'])") == "2"
    assert verify(str(disk.directory), subdir=True) == []
    assert sorted(file.name for file in disk.directory.iterdir()) == [
        "data.mdb",
        "lock.mdb",
        "marks",
        "state",
    ]
    assert disk.compact() == 0 or disk["later"] == 2


def test_compact_among_threads(disk):
    """Readers and writers of this process wait, and notice nothing."""
    disk.put_many({n: n for n in range(200)})
    stop = threading.Event()
    failures = []

    def use(seed):
        n = seed
        while not stop.is_set():
            try:
                n = (n * 5 + 1) % 200
                assert disk[n] == n
                disk[n] = n
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            disk.compact()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert disk.get_many(range(200)) == {n: n for n in range(200)}


def test_compact_alone_only(disk, other):
    """While another process has the directory open its file is not exchanged."""
    disk["key"] = 1
    process = other(disk.directory)
    before = disk._environment.identity
    with pytest.raises(DiskError, match="cannot be compacted: other processes have it open"):
        disk.compact()
    assert disk._environment.identity == before
    process("assert disk['key'] == 1; disk['key'] = 2")
    process.end()
    assert disk["key"] == 2
    disk.compact()
    assert disk["key"] == 2


def test_compact_and_a_child(disk):
    """A forked child counts as another process, even before it has used the tier."""
    disk["key"] = 1
    go_read, go_write = os.pipe()
    done_read, done_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(done_write, b"x")
        os.read(go_read, 1)
        os._exit(disk["key"])
    os.read(done_read, 1)
    with pytest.raises(DiskError, match="other processes"):
        disk.compact()
    disk["key"] = 7
    os.write(go_write, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    disk.compact()
    for end in (go_read, go_write, done_read, done_write):
        os.close(end)
    assert disk["key"] == 7


def test_compact_that_fails(disk, monkeypatch):
    """When the copy cannot be written the old file stays, and nothing is left behind."""
    disk["key"] = 1

    def full(*_):
        raise DiskError("no space")

    monkeypatch.setattr(upkeep, "_copy", full)
    with pytest.raises(DiskError, match="no space"):
        disk.compact()
    assert disk["key"] == 1
    disk["key"] = 2
    assert disk["key"] == 2
    assert not (disk.directory / "data.mdb.new").exists()


def test_who_opens_meanwhile_waits(disk, open_disk, monkeypatch):
    """A process that opens the directory while it is compacted waits, and finds the new file."""
    disk["key"] = 1
    opened = []
    real = upkeep._copy

    def slow(*arguments):
        code = "import sys; from hybridcore import Lmdb\nprint(Lmdb(sys.argv[1])['key'])"
        opened.append(
            subprocess.Popen(
                [sys.executable, "-c", code, str(disk.directory)],
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        with pytest.raises(subprocess.TimeoutExpired):
            opened[0].wait(1)
        real(*arguments)

    monkeypatch.setattr(upkeep, "_copy", slow)
    disk.compact()
    assert opened[0].communicate(timeout=30)[0] == "1\n"


def test_waiting_ends(disk, monkeypatch, tmp_path):
    """Who waits for a directory that is held for too long gets a clear error."""
    monkeypatch.setattr(durabilities, "_WAIT_SECONDS", 0.05)
    holder = durabilities.State(disk.directory, "process")
    disk.close()
    assert holder.claim()
    with pytest.raises(DiskError, match="held by a process that compacts"):
        Lmdb(disk.directory)
    holder.close()
    with Lmdb(disk.directory) as again:
        again["key"] = 1


def test_backup(open_disk, tmp_path):
    """A backup is a directory of its own, with the entries as they were."""
    disk = open_disk()
    disk.put_many({n: bytes(3000) for n in range(300)})
    disk.put("token", b"secret", ttl=60)
    disk.delete_many(range(1, 300))
    disk.backup(tmp_path / "copy")
    disk["later"] = 1
    assert oct((tmp_path / "copy").stat().st_mode)[-3:] == "700"
    assert {oct(file.stat().st_mode)[-3:] for file in (tmp_path / "copy").iterdir()} == {"600"}
    assert (tmp_path / "copy" / "data.mdb").stat().st_size < 200_000
    copy = open_disk("copy")
    assert not copy._environment.discarded
    assert dict(copy) == {0: bytes(3000), "token": b"secret"}
    assert copy.fetch("token").ttl_left == pytest.approx(60)
    copy["mine"] = 1
    assert "mine" not in disk


def test_backup_overwrites_nothing(disk, tmp_path):
    """What exists already is refused and stays, and so does a place that cannot be written."""
    disk["key"] = 1
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("mine")
    for name in ("there", "file", "cache"):
        with pytest.raises(DiskError, match="exists already"):
            disk.backup(tmp_path / name)
    with pytest.raises(DiskError, match="cannot make"):
        disk.backup(tmp_path / "no" / "where")
    assert list((tmp_path / "there").iterdir()) == []
    assert disk["key"] == 1


def test_backup_that_fails(disk, tmp_path, monkeypatch):
    """Half a backup is removed."""
    disk["key"] = 1

    def fails(_):
        raise OSError("the disk went away")

    monkeypatch.setattr(upkeep, "sync_directory", fails)
    with pytest.raises(DiskError, match="went away"):
        disk.backup(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_start_afresh(disk, other):
    """All entries go without one being read, and versions rise on; only for who is alone."""
    disk.put_many({n: n for n in range(100)})
    version = disk.fetch(5).version
    process = other(disk.directory)
    with pytest.raises(DiskError, match="cannot be cleared: other processes"):
        upkeep.start_afresh(disk._environment)
    assert len(disk) == 100
    process.end()
    upkeep.start_afresh(disk._environment)
    assert list(disk) == []
    disk[5] = 1
    assert disk.fetch(5).version > version


@pytest.mark.parametrize(
    "use",
    [
        lambda disk: disk.sync(),
        lambda disk: disk.verify(),
        lambda disk: disk.compact(),
        lambda disk: disk.clear(),
        lambda disk: disk.backup(disk.directory.parent / "copy"),
        lambda disk: disk.close(),
    ],
)
def test_a_map_that_another_process_has_grown(open_disk, use):
    """It is adopted by whatever comes first."""
    disk = open_disk(max_bytes="1MiB")
    disk["key"] = 1
    elsewhere(
        disk.directory,
        "disk.put_many({n: bytes(10_000) for n in range(1800)})",
        max_bytes="64MiB",
        durability="none",
    )
    use(disk)
    disk.close()
    assert open_disk().verify() == []


# -- marks and readers ----------------------------------------------------------------------


def test_a_mark_is_made_good_by_who_comes_next(disk, monkeypatch):
    """Each process syncs the mark once, since who wrote it may have died before it was on disk."""
    disk["key"] = 1
    synced = []
    real = os.fsync
    monkeypatch.setattr(durabilities.os, "fsync", lambda fd: synced.append(fd) or real(fd))
    late = durabilities.State(disk.directory, "process")
    late.mark()
    late.mark()
    late.close()
    assert len(synced) == 1
    disk["key"] = 2
    assert len(synced) == 1


def test_stale_readers_are_cleared_now_and_then(disk, monkeypatch):
    """Writes clear the slots of dead readers, no more often than every few seconds (Fault 11)."""
    disk["key"] = 1
    environment = disk._environment
    monkeypatch.setattr(environments, "_READERS_SECONDS", 0.0)
    monkeypatch.setattr(environments, "_IN_PLACE_SECONDS", 0.0)
    inside_read, inside_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        with environment.reading():
            os.write(inside_write, b"x")
            signal.pause()
    os.read(inside_read, 1)
    disk["key"] = 2
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    disk.get("key")
    assert str(pid) in environment._env.readers().split()
    disk["key"] = 3
    assert str(pid) not in environment._env.readers().split()
    os.close(inside_read)
    os.close(inside_write)
