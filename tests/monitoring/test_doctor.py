"""Directories with something wrong, as the doctor finds them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import lmdb
import pytest

from hybridcore import Lmdb
from hybridcore.cli import main
from hybridcore.disk.durability import line
from hybridcore.monitoring.doctor import examine
from hybridcore.write_queue import WriteQueue


@pytest.fixture
def directory(tmp_path):
    """Of a disk tier that is well."""
    with Lmdb(tmp_path / "cache", max_bytes="8MiB") as disk:
        disk.put("a", 1)
    return tmp_path / "cache"


def codes(directory):
    return {one.code for one in examine(directory) if one.level != "note"}


def codes_elsewhere(directory):
    """The same of another process."""
    command = [sys.executable, "-m", "hybridcore.cli", "doctor", str(directory), "--json"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode in (0, 1), run.stderr
    return {one["code"] for one in json.loads(run.stdout)} - {"extra", "versions"}


def test_what_is_well(directory, capsys) -> None:
    """It says so, with the versions, and changes nothing; also while the cache is in use."""
    assert codes(directory) == set()
    with Lmdb(directory, max_bytes="8MiB") as disk:
        assert codes_elsewhere(directory) == set()
        assert codes(directory) == set()  # as far as can be told here
        assert disk["a"] == 1
    assert main(["doctor", str(directory)]) == 0
    told = capsys.readouterr().out
    assert "nothing is wrong" in told
    assert "note: hybridcore" in told


def test_no_directory_and_none_of_ours(tmp_path, capsys) -> None:
    """A missing one, an empty one, and the environment of somebody else."""
    assert codes(tmp_path / "nowhere") == {"missing"}
    (tmp_path / "empty").mkdir(mode=0o700)
    assert codes(tmp_path / "empty") == {"empty"}
    (tmp_path / "theirs").mkdir(mode=0o700)
    with lmdb.Environment(str(tmp_path / "theirs")) as env, env.begin(write=True) as txn:
        txn.put(b"a", b"b")
    assert codes(tmp_path / "theirs") == {"foreign"}
    assert main(["doctor", str(tmp_path / "theirs"), "--json"]) == 1
    [found, *_] = json.loads(capsys.readouterr().out)
    assert (found["level"], found["code"]) == ("error", "foreign")
    assert found["cure"]


def test_another_format(directory) -> None:
    """It tells both numbers."""
    with lmdb.Environment(str(directory), max_dbs=8) as env, env.begin(write=True) as txn:
        txn.put(b"format", b"hybridcore disk 999", db=env.open_db(b"meta", txn=txn))
    [found] = [one for one in examine(directory) if one.code == "format"]
    assert "999" in found.text


def test_a_file_that_was_cut_off(directory) -> None:
    """It is not opened, and the way out is told."""
    os.truncate(directory / "data.mdb", 9000)
    [found] = [one for one in examine(directory) if one.level == "error"]
    assert found.code == "damaged"
    assert "cut off" in found.text
    assert "fill again" in found.cure


def test_a_file_that_is_none_of_lmdb(directory) -> None:
    """It says so."""
    (directory / "data.mdb").write_bytes(b"x" * 20_000)
    assert codes(directory) == {"damaged"}


def test_permissions_and_links(directory, tmp_path) -> None:
    """Others may enter; somebody else's link leads there."""
    directory.chmod(0o755)
    assert codes(directory) == {"permissions"}
    (tmp_path / "link").symlink_to(directory)
    assert "refused" in codes(tmp_path / "link")


def test_a_network_file_system(directory, tmp_path, monkeypatch) -> None:
    """It is refused where the kernel says that it is one."""
    from hybridcore.disk import directory as module

    number = f"{os.major(directory.stat().st_dev)}:{os.minor(directory.stat().st_dev)}"
    mounts = tmp_path / "mounts"
    mounts.write_text(f"1 2 {number} / / rw - nfs4 server:/ rw\n")
    monkeypatch.setattr(module, "_MOUNTS", mounts)
    [found] = [one for one in examine(directory) if one.code == "refused"]
    assert "nfs4" in found.text
    assert "local" in found.cure


def test_a_stamp_of_another_boot(directory) -> None:
    """What was not synced is not trusted, which is told before it happens."""
    other = "01234567-89ab-cdef-0123-456789abcdef"
    (directory / "state").write_bytes(line(dirty=True, boot=other))
    assert codes(directory) == {"boot"}
    assert (directory / "data.mdb").exists()


def test_a_clock_that_was_set_back(directory) -> None:
    """The file was written in the future."""
    later = (directory / "data.mdb").stat().st_mtime + 3600
    os.utime(directory / "data.mdb", (later, later))
    assert codes(directory) == {"clock"}


def test_a_map_and_a_file_system_that_are_nearly_full(directory, monkeypatch) -> None:
    """By the pages that were ever used, and by what is free."""
    from hybridcore.monitoring import doctor

    monkeypatch.setattr(doctor, "_NEARLY_FULL", 1e-6)
    assert "map" in codes(directory)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert [one.level for one in examine(directory) if one.code == "disk"] == ["error"]


def test_readers_that_are_dead_or_far_behind(directory, monkeypatch) -> None:
    """A process that died in a transaction, and one that reads an old state."""
    code = (
        "import lmdb, os, sys; env = lmdb.Environment(sys.argv[1], readonly=True, max_dbs=8); "
        "txn = env.begin(); txn.get(b'x'); os._exit(0)"
    )
    with Lmdb(directory, max_bytes="8MiB"):
        subprocess.run([sys.executable, "-c", code, str(directory)], check=True)
        assert codes_elsewhere(directory) == {"stale_readers"}
    from hybridcore.monitoring import doctor

    monkeypatch.setattr(doctor, "_BEHIND", -1)
    with lmdb.Environment(str(directory), readonly=True, max_dbs=8) as env, env.begin() as txn:
        txn.get(b"x")
        [found] = doctor._readers(env)
    assert found.code == "pinned"
    assert str(os.getpid()) in found.text


def test_a_queue_that_nobody_drains(tmp_path) -> None:
    """Writes that wait while no process has it open, and dead letters."""
    with WriteQueue(tmp_path / "queue") as queue:
        queue.put("a", 1)
        assert codes_elsewhere(tmp_path / "queue") == set()
    assert codes(tmp_path / "queue") == {"not_drained"}

    def refuse(batch):
        return {delivery.key: ValueError("never") for delivery in batch}

    from hybridcore.write_queue import Redelivery

    with WriteQueue(tmp_path / "queue", target=refuse, redelivery=Redelivery(attempts=1)) as queue:
        queue.flush(20)
        assert queue.stats().dead == 1
    assert codes(tmp_path / "queue") == {"dead_letters"}


def test_a_damaged_queue_is_not_told_to_be_removed(tmp_path) -> None:
    """A file that was cut off may have held writes: it is not called a cache."""
    with WriteQueue(tmp_path / "writes") as queue:
        queue.put("a", 1)
    os.truncate(tmp_path / "writes" / "data.mdb", 4096)
    [found] = [one for one in examine(tmp_path / "writes") if one.code == "damaged"]
    assert found.cure.startswith("If it is a cache, remove the directory")
    assert found.cure.endswith("if it is a queue, restore its backup.")
