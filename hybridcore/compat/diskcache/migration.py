"""`migrate` copies what diskcache stored, reading its files as data: nothing in them is run."""

from __future__ import annotations

import datetime
import decimal
import json
import pickle
import sqlite3
import time
import zlib
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hybridcore.compat.diskcache.core import originals
from hybridcore.errors import ConfigurationError, EncodeError, KeyEncodingError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

    from hybridcore.compat.diskcache.cache import Cache

_RAW, _BINARY, _TEXT, _PICKLE = 1, 2, 3, 4
"""diskcache's modes."""

_HARMLESS: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): lambda text, name: text.encode("latin1"),  # bytes in old pickles
    ("builtins", "bytearray"): lambda *parts: _bytearray(*parts),
    ("builtins", "complex"): complex,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "set"): set,
    ("datetime", "date"): datetime.date,
    ("datetime", "datetime"): datetime.datetime,
    ("datetime", "time"): datetime.time,
    ("datetime", "timedelta"): datetime.timedelta,
    ("datetime", "timezone"): datetime.timezone,
    ("decimal", "Decimal"): decimal.Decimal,
}
"""What a pickle may name, and what is called for it: nothing that does more than hold data."""


@dataclass(frozen=True, slots=True)
class Migrated:
    """What became of the entries; ``skipped`` counts those left behind, by the reason."""

    copied: int
    expired: int
    skipped: dict[str, int]


def migrate(old_directory: str | os.PathLike[str], new: Cache) -> Migrated:
    """Copy the entries of diskcache's Cache, FanoutCache, Index or Deque, oldest first.

    Expiry and tags are kept. Pickled keys and values are read if they hold plain data only;
    those that name any class or function but a few of the standard library are skipped. The
    old directory is not changed.

    Raises:
        ConfigurationError: diskcache left no data in that directory.
    """
    directory = Path(old_directory)
    shards = originals(directory)
    if not shards:
        raise ConfigurationError(
            f"a directory that diskcache wrote is expected, got {str(directory)!r}, which has "
            "no cache.db"
        )
    copied = expired = 0
    skipped: Counter[str] = Counter()
    for shard in shards:
        for row in _rows(shard):
            expire_time, tag = row["expire_time"], row["tag"]
            left = None if expire_time is None else expire_time - time.time()
            if left is not None and left <= 0:
                expired += 1
                continue
            try:
                key, value = _key(row), _value(shard, row)
                new.set(key, value, left, tag=bytes(tag) if type(tag) is memoryview else tag)
            except (pickle.UnpicklingError, KeyEncodingError, EncodeError) as error:
                skipped[f"{type(error).__name__}: {error}"] += 1
            except Exception as error:
                skipped[f"unreadable: {type(error).__name__}"] += 1
            else:
                copied += 1
    return Migrated(copied, expired, dict(skipped))


def _rows(shard: Path) -> Iterator[dict[str, Any]]:
    uri = f"file:{quote(str((shard / 'cache.db').absolute()))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True)
    try:
        connection.row_factory = sqlite3.Row
        settings = dict(connection.execute("SELECT key, value FROM Settings").fetchall())
        as_json = "disk_compress_level" in settings  # of JSONDisk alone
        for row in connection.execute("SELECT * FROM Cache ORDER BY rowid"):
            yield {**row, "json": as_json}
    finally:
        connection.close()


def _key(row: dict[str, Any]) -> Any:
    key = row["key"]
    if row["json"]:
        return _json(key)
    return key if row["raw"] else _unpickled(key)


def _value(shard: Path, row: dict[str, Any]) -> Any:
    mode, stored = row["mode"], row["value"]
    read: Callable[[], bytes] = lambda: _file(shard, row["filename"])  # noqa: E731
    if mode == _RAW:
        value: Any = stored
    elif mode == _BINARY:
        value = read()
    elif mode == _TEXT:
        value = read().decode()
    elif mode == _PICKLE:
        value = _unpickled(read() if stored is None else stored)
    else:
        raise ValueError(f"unknown mode {mode}")
    return _json(value) if row["json"] else value


def _file(shard: Path, name: str) -> bytes:
    path = (shard / name).resolve()
    if not path.is_relative_to(shard.resolve()):
        raise ValueError("a value is said to lie outside of the directory")
    return path.read_bytes()


def _json(stored: bytes) -> Any:
    return json.loads(zlib.decompress(stored))


class _DataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"the pickle names {module}.{name}, which is not data")
        return _HARMLESS[module, name]


def _bytearray(*parts: Any) -> bytearray:
    """From bytes, or text of that many; not from a number, which would ask for its memory."""
    content = parts[0] if parts else b""
    return bytearray(content.encode("latin1") if isinstance(content, str) else b"".join([content]))


def _unpickled(stored: bytes) -> Any:
    return _DataUnpickler(BytesIO(stored)).load()
