"""Entries that diskcache stored are copied over, and nothing in them is run."""

from __future__ import annotations

import datetime
import json
import os
import pickle
import sqlite3
import time
import zlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridcore import ConfigurationError
from hybridcore.compat.diskcache import Cache, migrate
from hybridcore.compat.diskcache import migration as module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RAW, BINARY, TEXT, PICKLE = 1, 2, 3, 4


class Old:
    """A directory as diskcache 5 leaves it."""

    def __init__(self, directory: Path, settings: dict[str, Any] | None = None) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        self._connection = sqlite3.connect(directory / "cache.db", isolation_level=None)
        self._connection.execute("CREATE TABLE Settings (key TEXT NOT NULL UNIQUE, value)")
        self._connection.execute(
            "CREATE TABLE Cache (rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL,"
            " expire_time REAL, access_time REAL, access_count INTEGER DEFAULT 0, tag BLOB,"
            " size INTEGER DEFAULT 0, mode INTEGER DEFAULT 0, filename TEXT, value BLOB)"
        )
        for item in (settings or {}).items():
            self._connection.execute("INSERT INTO Settings VALUES (?, ?)", item)

    def add(
        self,
        key: Any,
        value: Any,
        *,
        raw: bool = True,
        mode: int = RAW,
        filename: str | None = None,
        expire_time: float | None = None,
        tag: Any = None,
    ) -> None:
        self._connection.execute(
            "INSERT INTO Cache (key, raw, mode, filename, value, expire_time, tag)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (key, raw, mode, filename, value, expire_time, tag),
        )


@pytest.fixture
def old(tmp_path: Path) -> Old:
    return Old(tmp_path / "old")


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "new") as cache:
        yield cache


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("harmed",)


def test_everything(old: Old, new: Cache) -> None:
    """Keys, values, tags, expiry and order come over; what has expired does not."""
    later = time.time() + 3600
    old.add("text", "x", expire_time=later, tag="red")
    old.add(b"bytes", b"y", tag=b"raw")
    old.add(7, 1.5, tag=3)
    old.add(pickle.dumps((1, "t")), pickle.dumps({"a": [1, (2,)]}), raw=False, mode=PICKLE)
    (old.directory / "aa").mkdir()
    (old.directory / "aa" / "1.val").write_bytes(b"z" * 50_000)
    (old.directory / "aa" / "2.val").write_bytes(pickle.dumps(["long"] * 9))
    old.add("file", None, mode=BINARY, filename="aa/1.val")
    old.add("lines", None, mode=TEXT, filename="aa/1.val")
    old.add("pickled", None, mode=PICKLE, filename="aa/2.val")
    old.add("gone", 1, expire_time=time.time() - 1)
    assert migrate(old.directory, new) == module.Migrated(7, 1, {})
    assert list(new) == ["text", b"bytes", 7, (1, "t"), "file", "lines", "pickled"]
    assert new.get("text", expire_time=True, tag=True) == ("x", pytest.approx(later), "red")
    assert new.get(b"bytes", tag=True) == (b"y", b"raw")
    assert new.get(7, tag=True) == (1.5, 3)
    assert new[(1, "t")] == {"a": [1, (2,)]}
    assert (new["file"], new["lines"], new["pickled"]) == (
        b"z" * 50_000,
        "z" * 50_000,
        ["long"] * 9,
    )


@pytest.mark.parametrize("protocol", range(6))
def test_data_in_pickles(old: Old, new: Cache, protocol: int) -> None:
    """Pickles of every protocol are read as far as they hold data."""
    value = [
        None, True, 2**70, -1.5, 1j, "é", b"\0\xff", bytearray(b"\xfe"), (1, [2]), {"a": {1}},
        frozenset({2}), Decimal("1.10"), datetime.date(2020, 1, 2), datetime.timedelta(1, 2, 3),
        datetime.datetime(2020, 1, 2, 3, 4, tzinfo=datetime.timezone.utc), datetime.time(1, 2),
    ]  # fmt: skip
    old.add("a", pickle.dumps(value, protocol), mode=PICKLE)
    assert migrate(old.directory, new).skipped == {}
    assert new["a"] == value


def test_nothing_runs(old: Old, new: Cache, tmp_path: Path, monkeypatch) -> None:
    """Fault 9: a pickle that names anything else is skipped, as a key or as a value."""
    monkeypatch.chdir(tmp_path)
    old.add("value", pickle.dumps(Harmful()), mode=PICKLE)
    old.add(pickle.dumps(Harmful()), 1, raw=False)
    old.add("nested", pickle.dumps([{"a": Harmful()}]), mode=PICKLE)
    old.add("memory", b"cbuiltins\nbytearray\n(I1000000000000\ntR.", mode=PICKLE)
    old.add("good", 1)
    done = migrate(old.directory, new)
    assert (done.copied, sum(done.skipped.values())) == (1, 4)
    assert any("mkdir" in reason for reason in done.skipped)
    assert not (tmp_path / "harmed").exists()


@given(st.binary(max_size=60))
def test_any_pickle(stored: bytes) -> None:
    """Whatever the bytes, the reader returns or raises an exception."""
    try:
        module._unpickled(stored)
    except Exception:
        return


def test_outside(old: Old, new: Cache, tmp_path: Path) -> None:
    """A file name cannot lead out of the old directory."""
    (tmp_path / "secret").write_bytes(b"s")
    old.add("up", None, mode=BINARY, filename="../secret")
    old.add("absolute", None, mode=BINARY, filename=str(tmp_path / "secret"))
    done = migrate(old.directory, new)
    assert (done.copied, done.skipped) == (0, {"unreadable: ValueError": 2})


def test_skipped(old: Old, new: Cache) -> None:
    """What cannot be stored or read is counted by its reason."""
    old.add(pickle.dumps(["list"]), 1, raw=False)
    old.add("missing", None, mode=BINARY, filename="aa/0.val")
    old.add("mode", 1, mode=9)
    done = migrate(old.directory, new)
    assert done.copied == 0
    assert sorted(reason.partition(":")[0] for reason in done.skipped) == [
        "KeyEncodingError",
        "unreadable",
        "unreadable",
    ]


def test_json(tmp_path: Path, new: Cache) -> None:
    """What JSONDisk wrote is read as JSON."""
    old = Old(tmp_path / "json", {"disk_compress_level": 1})
    packed = zlib.compress(json.dumps({"a": [1]}).encode())
    old.add(zlib.compress(b'"key"'), packed, mode=RAW)
    assert migrate(old.directory, new).copied == 1
    assert new["key"] == {"a": [1]}


def test_shards(tmp_path: Path, new: Cache) -> None:
    """The shards of a FanoutCache are copied into one cache."""
    for shard in range(3):
        Old(tmp_path / "old" / f"{shard:03d}").add(shard, "x")
    assert migrate(tmp_path / "old", new).copied == 3
    assert sorted(new) == [0, 1, 2]


def test_not_in_place(old: Old) -> None:
    """A directory of diskcache is not opened as one of ours, and the error names migrate."""
    with pytest.raises(ConfigurationError, match="migrate"):
        Cache(old.directory)


def test_no_old_cache(tmp_path: Path, new: Cache) -> None:
    """A directory without an old cache is told."""
    with pytest.raises(ConfigurationError, match=r"cache\.db"):
        migrate(tmp_path, new)


def test_real_one(tmp_path: Path, new: Cache) -> None:
    """What diskcache itself wrote comes over."""
    diskcache = pytest.importorskip("diskcache")
    values = {"a": 1, ("b", 2): [None, {"x": (1,)}], b"c": b"large" * 20_000, 4.5: "é" * 50_000}
    with diskcache.Cache(str(tmp_path / "theirs")) as theirs:
        for key, value in values.items():
            theirs.set(key, value, expire=3600, tag="t")
    assert migrate(tmp_path / "theirs", new).copied == len(values)
    assert {key: new[key] for key in new} == values
    assert all(new.get(key, tag=True)[1] == "t" for key in values)
