from __future__ import annotations

import gc
import os
import shutil
import stat
import subprocess
import sys
import textwrap
import time
import weakref

import lmdb
import pytest

from hybridcore import ClosedError, DiskError, Lmdb
from hybridcore.disk import directory as directories


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_may_look(tmp_path):
    """The directory is made 0700 and its files 0600, whatever the umask (Fault 30)."""
    before = os.umask(0)
    try:
        with Lmdb(tmp_path / "deep" / "cache") as disk:
            disk["key"] = 1
    finally:
        os.umask(before)
    assert mode(disk.directory) == 0o700
    assert {mode(file) for file in disk.directory.iterdir()} == {0o600}


def test_a_symlink_is_refused(tmp_path):
    """Neither the directory nor its files may be links (Fault 30)."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(DiskError, match="symbolic link"):
        Lmdb(tmp_path / "link")
    (tmp_path / "real" / "data.mdb").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DiskError, match=r"data\.mdb.*symbolic link"):
        Lmdb(tmp_path / "real")
    assert not (tmp_path / "elsewhere").exists()


def test_a_foreign_owner_is_refused(tmp_path, monkeypatch):
    """A directory of somebody else is refused, with both user ids (Fault 30)."""
    (tmp_path / "cache").mkdir()
    us = os.geteuid()
    monkeypatch.setattr(directories.os, "geteuid", lambda: us + 1)
    with pytest.raises(DiskError, match=f"belongs to user {us}, this process runs as {us + 1}"):
        Lmdb(tmp_path / "cache")


def test_a_file_is_no_directory(tmp_path):
    """A path that leads to or through a file is refused."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DiskError, match="directory"):
        Lmdb(tmp_path / "file")
    with pytest.raises(DiskError, match="directory"):
        Lmdb(tmp_path / "file" / "cache")
    assert (tmp_path / "file").read_text() == "mine"


def listing(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize("named", [None, b"meta", b"data"])
def test_somebody_elses_lmdb_is_left_alone(tmp_path, named):
    """An LMDB environment without our stamp is refused and not touched."""
    with lmdb.open(str(tmp_path / "theirs"), max_dbs=3) as env, env.begin(write=True) as txn:
        db = None if named is None else env.open_db(named, txn=txn)
        txn.put(b"key", b"value", db=db)
    os.unlink(tmp_path / "theirs" / "lock.mdb")
    before = listing(tmp_path / "theirs")
    with pytest.raises(DiskError, match="somebody else's"):
        Lmdb(tmp_path / "theirs")
    assert listing(tmp_path / "theirs") == before


def test_a_newer_format_is_left_alone(open_disk):
    """A directory that a later version wrote is refused, naming both formats."""
    disk = open_disk()
    disk["key"] = 1
    env = disk._environment
    with env._env.begin(write=True) as txn:
        txn.put(b"format", b"hybridcore disk 5", db=env.meta)
    disk.close()
    before = (disk.directory / "data.mdb").read_bytes()
    with pytest.raises(DiskError, match="format 5, this version of hybridcore reads 4"):
        open_disk()
    assert (disk.directory / "data.mdb").read_bytes() == before


@pytest.mark.parametrize("state", [True, False])
def test_an_older_format_is_left_alone(open_disk, state):
    """A directory that an earlier version wrote is refused, with the way out."""
    disk = open_disk()
    disk["key"] = 1
    with disk._environment._env.begin(write=True) as txn:
        txn.put(b"format", b"hybridcore disk 3", db=disk._environment.meta)
    disk.close()
    if not state:
        (disk.directory / "state").unlink()
    before = (disk.directory / "data.mdb").read_bytes()
    with pytest.raises(DiskError, match=r"format 3, .* reads 4\..*start afresh"):
        open_disk()
    assert (disk.directory / "data.mdb").read_bytes() == before


@pytest.mark.parametrize("content", [b"x", b"not lmdb" * 2000])
def test_any_other_file_is_left_alone(tmp_path, content):
    """A data file that is none of LMDB's is refused and kept."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "data.mdb").write_bytes(content)
    with pytest.raises(DiskError, match=r"data\.mdb"):
        Lmdb(tmp_path / "cache")
    assert (tmp_path / "cache" / "data.mdb").read_bytes() == content


@pytest.mark.parametrize("left", [1, 4095, 8191, 8192, 40_000, 0.5, 0.95])
def test_a_file_that_was_cut_off(open_disk, left):
    """A truncated data file is a clear error instead of a dead process (Fault 8)."""
    disk = open_disk()
    disk.put_many((n, b"x" * 1000) for n in range(1000))
    disk.close()
    file = disk.directory / "data.mdb"
    with file.open("r+b") as stream:
        stream.truncate(left if left >= 1 else int(file.stat().st_size * left))
    with pytest.raises(DiskError, match="remove the directory"):
        open_disk()
    shutil.rmtree(disk.directory)
    assert len(open_disk()) == 0


MOUNTS = """
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:40 / /home rw shared:1 master:2 - nfs4 server:/home rw
31 30 0:41 / /home/me/over\\040there rw - fuse.sshfs host: rw
32 27 0:42 /sub /data rw - btrfs /dev/vdb rw
33 27 8:1 / /home/disk rw - xfs /dev/sda1 rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "device", "kind"),
    [
        ("/var/cache", (254, 0), "ext4"),
        ("/home/me/cache", (0, 40), "nfs4"),
        ("/home/me/over there/cache", (0, 41), "fuse.sshfs"),
        ("/home/me/over there", (0, 99), "fuse.sshfs"),
        ("/home/me/over thereabouts", (0, 99), "nfs4"),
        ("/home/disk", (8, 1), "xfs"),
        ("/data/cache", (0, 99), "btrfs"),  # of a subvolume the device is in no list
        ("/database", (0, 99), "ext4"),
    ],
)
def test_the_file_system_of_a_path(path, device, kind):
    """It is found by its device, else by the longest mount point above the path."""
    assert directories.file_system(path, os.makedev(*device), MOUNTS) == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs"])
def test_a_network_file_system_is_refused(tmp_path, monkeypatch, kind):
    """LMDB cannot keep its promises there; the error says what will do."""
    device = tmp_path.stat().st_dev
    mounts = tmp_path / "mounts"
    mounts.write_text(f"30 1 {os.major(device)}:{os.minor(device)} / / rw - {kind} there rw\n")
    monkeypatch.setattr(directories, "_MOUNTS", mounts)
    with pytest.raises(DiskError, match=rf"is on {kind}\. .*local disk"):
        Lmdb(tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    monkeypatch.setattr(directories, "_MOUNTS", tmp_path / "none, as on other systems")
    Lmdb(tmp_path / "cache").close()


def test_two_names_of_a_directory(open_disk, tmp_path):
    """Through a link higher up it is the same directory: one environment, one file."""
    disk = open_disk("real/cache")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    other = open_disk("link/cache")
    other["key"] = 1
    assert disk["key"] == 1
    assert other._environment is disk._environment


ELSEWHERE = """
    import sys
    from hybridcore import Lmdb
    with Lmdb(sys.argv[1]) as disk:
        disk["there"] = disk["here"]
"""


def elsewhere(directory):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ELSEWHERE), directory],
        capture_output=True,
        text=True,
    )


def test_a_hard_link_to_the_data(open_disk, tmp_path):
    """This process shares what it has open; another, which would lock another file, is refused."""
    disk = open_disk()
    disk["here"] = 1
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "data.mdb").hardlink_to(disk.directory / "data.mdb")
    other = open_disk("other")
    assert other._environment is disk._environment
    other["key"] = 2
    assert disk["key"] == 2
    other.close()
    assert disk["key"] == 2
    assert "another lock file" in elsewhere(tmp_path / "other").stderr
    assert "there" not in disk
    with pytest.raises(DiskError, match="hard link"):
        disk.compact()
    assert disk["key"] == 2


def test_hard_links_to_all_files(open_disk, tmp_path):
    """Where the locks are linked too, processes share the data as under one name."""
    disk = open_disk()
    disk["here"] = 1
    shutil.copytree(disk.directory, tmp_path / "other", copy_function=os.link)
    done = elsewhere(tmp_path / "other")
    assert (done.returncode, done.stderr) == (0, "")
    assert disk["there"] == 1


def test_a_directory_that_may_not_be_written(open_disk, tmp_path):
    """A read-only directory is a clear error (Fault 6)."""
    if os.geteuid() != 0:
        disk = open_disk()
        disk["key"] = 1
        disk.close()
        (disk.directory / "state").chmod(0o400)
        with pytest.raises(DiskError, match="can write to"):
            open_disk()
        return
    place = tmp_path / "mount"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", place]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this process may not mount")
    try:
        with Lmdb(place / "cache", max_bytes="1MiB") as disk:
            disk["key"] = 1
        del disk  # the marks of reads stay mapped for as long as the object is there
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        with pytest.raises(DiskError, match="can write to"):
            open_disk("mount/cache")
        with pytest.raises(DiskError, match="Read-only"):
            open_disk("mount/other")
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_closed_one_goes_without_the_garbage_collector(tmp_path):
    """Nothing of it is in a cycle, so that the marks do not stay mapped until a collection."""
    gc.disable()
    try:
        disk = Lmdb(tmp_path / "cache")
        disk.put("key", 1, ttl=60)
        assert disk["key"] == 1
        environment = weakref.ref(disk._environment)
        disk.close()
        with pytest.raises(ClosedError):
            disk.get("key")
        del disk
        assert environment() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_directory_that_goes_away(tmp_path, open_disk, how):
    """Writes notice that their file is gone, and reopening starts afresh (Fault 6)."""
    disk = open_disk()
    disk["key"] = 1
    shutil.rmtree(disk.directory)
    if how == "replaced":
        with Lmdb(disk.directory) as other:
            other["other"] = 2
    time.sleep(0.11)
    with pytest.raises(DiskError, match="removed or replaced"):
        disk["key"] = 2
    with pytest.raises(DiskError, match="removed or replaced"):
        disk["key"] = 2
    disk.close()
    again = open_disk()
    assert dict(again) == ({"other": 2} if how == "replaced" else {})
    again["key"] = 3
    assert again["key"] == 3


def test_the_path_may_be_relative(tmp_path, monkeypatch, clock):
    """A relative directory stays the one it was when opened."""
    monkeypatch.chdir(tmp_path)
    with Lmdb("cache", clock=clock) as disk:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        disk["key"] = 1
        assert disk.stats().file_bytes > 0
    assert (tmp_path / "cache" / "data.mdb").exists()


TRIALS = """
    import os, random, shutil, sys
    from pathlib import Path
    from hybridcore import ClosedError, DiskError, Lmdb

    source, work = Path(sys.argv[1]), Path(sys.argv[2])
    whole = (source / "data.mdb").read_bytes()
    pages = len(whole) // 4096

    def damage(rng):
        data = bytearray(whole)
        how = rng.choice(["flip", "zero", "cut", "swap"])
        for _ in range(rng.choice([1, 5, 50])):
            page, other = rng.randrange(pages) * 4096, rng.randrange(pages) * 4096
            if how == "flip":
                data[page + rng.randrange(4096)] ^= 1 << rng.randrange(8)
            elif how == "zero":
                data[page : page + 4096] = bytes(4096)
            elif how == "swap":
                kept = data[page : page + 4096]
                data[page : page + 4096] = data[other : other + 4096]
                data[other : other + 4096] = kept
        if how == "cut":
            del data[rng.randrange(1, pages) * 4096 :]
        return data

    def use(disk):
        for key in range(600):
            value = disk.get(key)
            if value is not None and value != bytes([key % 251]) * (50 + key * 7):
                return f"wrong value under {key}"
        for key in range(0, 600, 20):
            disk[key] = bytes([key % 251]) * (50 + key * 7)
            disk.delete(key + 1)
        return ""

    for seed in range(200):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        (work / "data.mdb").write_bytes(damage(random.Random(seed)))
        pid = os.fork()
        if pid == 0:
            try:
                with Lmdb(work, max_bytes="8MiB") as disk:
                    said = use(disk) or "survived"
            except DiskError:
                said = "survived"
            except BaseException as error:
                said = repr(error)
            os.write(1, (said + chr(10)).encode())
            os._exit(0)
        os.waitpid(pid, 0)
"""


@pytest.mark.slow
def test_damage_anywhere_in_the_file(tmp_path):
    """200 damaged files: never a wrong value; misses and DiskErrors (Fault 8).

    LMDB checks no page numbers against the file's end, so a flip in one can still end a process.
    """
    with Lmdb(tmp_path / "whole", max_bytes="8MiB") as disk:
        disk.put_many({key: bytes([key % 251]) * (50 + key * 7) for key in range(600)})
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TRIALS), tmp_path / "whole", tmp_path / "work"],
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout.splitlines()
    assert set(said) == {"survived"}
    assert len(said) >= 196
