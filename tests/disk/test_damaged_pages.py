"""Damage in the pages that lead to records: a miss or a clear error, with the process alive."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import textwrap

import pytest

from hybridcore import DiskError
from hybridcore._native.pages import Walk
from hybridcore.disk.keys import encode_key

PAGE = 4096

FUZZ = """
    import json, os, random, shutil, sys
    from pathlib import Path
    from hybridcore import DiskError, Lmdb

    place, count = Path(sys.argv[1]), int(sys.argv[2])
    with Lmdb(place / "whole", max_bytes="8MiB") as disk:
        disk.put_many({key: bytes([key % 251]) * (50 + key * 7) for key in range(600)})
        disk.delete_many(range(100, 200))
    whole = (place / "whole/data.mdb").read_bytes()
    state = (place / "whole/state").read_bytes()
    pages = len(whole) // 4096

    def damaged(rng):
        data, how = bytearray(whole), rng.choice(["flip", "zero", "cut", "swap", "random"])
        for _ in range(rng.choice([1, 5, 50])):
            page, other = (rng.randrange(2, pages) * 4096 for _ in range(2))
            if how == "flip":
                data[page + rng.randrange(4096)] ^= 1 << rng.randrange(8)
            elif how == "zero":
                data[page : page + 4096] = bytes(4096)
            elif how == "random":
                data[page : page + 4096] = rng.randbytes(4096)
            elif how == "swap":
                one, two = data[page : page + 4096], data[other : other + 4096]
                data[page : page + 4096], data[other : other + 4096] = two, one
        if how == "cut":
            del data[rng.randrange(1, pages) * 4096 :]
        return data

    def right(key, value):
        return value == bytes([key % 251]) * (50 + key * 7)

    def get(disk):
        assert all(right(key, value) for key, value in disk.get_many(range(600)).items())
        for key in range(600):
            value = disk.get(key)
            assert value is None or right(key, value)

    def read(disk):
        get(disk)
        keys = list(disk)
        assert keys == sorted(set(keys)) and set(keys) <= set(range(600))
        assert len(list(disk.keys_from("x"))) == 0
        assert all(right(key, value) for key, value in disk.items())

    def clear(disk):
        disk.clear()
        assert len(disk) == 0 and list(disk) == []
        disk["key"] = 1
        assert disk["key"] == 1

    def verify(disk):
        assert all(isinstance(problem, str) for problem in disk.verify())

    ended = {}
    for seed in range(count):
        data = damaged(random.Random(seed))
        for work in (read, clear, verify):
            shutil.rmtree(place / "cache", ignore_errors=True)
            (place / "cache").mkdir()
            (place / "cache/data.mdb").write_bytes(data)
            (place / "cache/state").write_bytes(state)
            pid = os.fork()
            if pid == 0:
                status = 2
                try:
                    with Lmdb(place / "cache", max_bytes="8MiB") as disk:
                        work(disk)
                    status = 0
                except DiskError:
                    status = 1
                finally:
                    os._exit(status)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            name = {0: "went on", 1: "DiskError"}.get(code, f"seed {seed}: {code}")
            told = ended.setdefault(work.__name__, {})
            told[name] = told.get(name, 0) + 1
    print(json.dumps(ended))
"""


def test_60_damaged_files(tmp_path):
    """Of 60 files with flipped bits, zeroed, exchanged and lost pages each is read, gone
    through, cleared and verified with what is whole, or refused; no process ends (Fault 8)."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FUZZ), str(tmp_path), "60"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    for work, ended in json.loads(done.stdout).items():
        assert set(ended) == {"went on", "DiskError"}, work
        assert ended["went on"] > 30, work


@pytest.fixture
def disk(open_disk):
    disk = open_disk()
    disk.put_many({key: bytes(key) for key in range(1000)}, tag="all")
    return disk


def leaves_of(file):
    """The pages that hold records under ints, by the first key of each."""
    data = file.read_bytes()
    memory = memoryview(data)
    found = {}
    for page in range(2, len(data) // PAGE):
        number, _, kind, lower, _ = struct.unpack_from("<QHHHH", data, page * PAGE)
        if number == page and kind == 2 and lower > 16:
            node = page * PAGE + struct.unpack_from("<H", data, page * PAGE + 16)[0]
            size = struct.unpack_from("<H", data, node + 6)[0]
            key = bytes(memory[node + 8 : node + 8 + size])
            if key[0] == 0x11:
                found[key] = page
    return found


def test_what_is_whole_is_found(disk):
    """Iteration gives all keys but those of the one page that is damaged, which is counted."""
    keys = list(disk)
    assert keys == list(range(1000))
    file = disk.directory / "data.mdb"
    leaves = list(leaves_of(file).values())
    with file.open("r+b") as stream:
        stream.seek(leaves[len(leaves) // 2] * PAGE)
        stream.write(bytes(PAGE))
    found = list(disk)
    assert found == sorted(found)
    assert 900 < len(found) < 1000
    assert disk.stats().damaged == 1
    assert sum(map(len, disk.tagged("all"))) == len(found)
    assert len(disk.verify()) > 0


def nodes_of(file):
    """Where the nodes of the records are, by their keys."""
    data = file.read_bytes()
    found = {}
    for page in leaves_of(file).values():
        lower = struct.unpack_from("<H", data, page * PAGE + 12)[0]
        for place in struct.unpack_from(f"<{(lower - 16) // 2}H", data, page * PAGE + 16):
            node = page * PAGE + place
            size = struct.unpack_from("<H", data, node + 6)[0]
            found[data[node + 8 : node + 8 + size]] = node, size
    return found


def test_every_bit_of_a_node(disk):
    """Each flipped bit of what leads to a large record, its size included, is a miss."""
    disk[1000] = bytes(10_000)
    file = disk.directory / "data.mdb"
    node, size = nodes_of(file)[encode_key(1000)]
    length, missed = 8 + size + 8, 0
    with file.open("r+b", buffering=0) as stream:
        for bit in range(length * 8):
            stream.seek(place := node + bit // 8)
            whole = stream.read(1)
            stream.seek(place)
            stream.write(bytes([whole[0] ^ 1 << bit % 8]))
            value = disk.get(1000)
            assert value is None or value == bytes(10_000)
            missed += value is None
            stream.seek(place)
            stream.write(whole)
    assert missed == length * 8
    assert disk[1000] == bytes(10_000)


def test_clear_among_others_over_damage(disk):
    """Where somebody else uses the directory, clear refuses damaged pages and changes nothing."""
    file = disk.directory / "data.mdb"
    with file.open("r+b") as stream:
        stream.seek(max(leaves_of(file).values()) * PAGE)
        stream.write(bytes(PAGE))
    with disk._environment.reading(), pytest.raises(DiskError, match=r"pages of .* are damaged"):
        disk.clear()
    assert len(disk) == 1000


def test_no_meta_page():
    """What has no meta page, or not the database that is asked for, is an error that says so."""
    for memory in (b"", bytes(100), bytes(10_000)):
        with pytest.raises(ValueError, match="its meta pages"):
            Walk(memory, b"data")
