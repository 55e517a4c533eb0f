"""Every cache that is measured: how to make it, and how its users write each operation.

An operation is a statement, as in `timeit`, so that no wrapper of ours stands between the loop and
the cache. A statement sees ``c`` (the cache), ``v`` (a value) and what it works on: ``k`` (a key),
``old`` (a key to drop), ``ks`` (a list of keys) or ``items`` (a dict); where it makes a cache
smaller, ``v`` is the new bound and ``ks`` are the keys beyond it. A peer without a statement
for an operation has no such operation. Packages are imported when a cache is made.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(frozen=True)
class Peer:
    """One cache: ``make`` takes what its tier is given (a maxsize, or a directory)."""

    name: str
    distribution: str | None  # None: part of Python
    make: Callable[[Any], Any]
    statements: dict[str, str]
    needs: str | None = None  # "module:name" that not every version has
    wants_lock: bool = False  # of its users, where threads share it

    def missing(self) -> str | None:
        """Why it cannot be made here; None if it can."""
        try:
            if self.distribution is not None:
                metadata.version(self.distribution)
            if self.needs is not None:
                pkgutil.resolve_name(self.needs)
        except (ImportError, AttributeError) as error:
            return str(error)
        return None

    def statement(self, operation: str) -> str | None:
        """How this operation is written, or None if there is no such thing here."""
        own = self.statements
        if operation in own or "set" not in own:
            return own.get(operation)
        if operation == "evict":
            return own["set"]
        if operation == "read":
            return f"if {own['get']} is None: {own['set']}"
        return None


def _from(module: str, name: str, *args: Any, **kwargs: Any) -> Callable[[int], Any]:
    """Make ``module.name(maxsize, *args, **kwargs)``, importing the module then."""

    def make(maxsize: int) -> Any:
        return getattr(importlib.import_module(module), name)(maxsize, *args, **kwargs)

    return make


def exact_lru() -> dict[str, Any]:
    """The options that make `hybridcore.Cache` evict what was used least recently."""
    import hybridcore

    return {"weights": hybridcore.Weights.lru()} if hasattr(hybridcore, "Weights") else {}


def _hybridcore_lru(maxsize: int) -> Any:
    import hybridcore

    return hybridcore.Cache(maxsize, **exact_lru())


def _identity(key: Any) -> Any:
    return key


TTL = "hybridcore ttl"  # what it takes longer than hybridcore is told

MAPPING = {"get": "c.get(k)", "[k]": "c[k]", "set": "c[k] = v"}
"""How a bounded mapping is used; what evicts is a ``set``, too."""

OWN = MAPPING | {"shrink": "c.resize(v)"}
CACHEBOX = MAPPING | {"shrink": "c.drain(len(ks))"}

MEMORY = [
    Peer(
        "dict",
        None,
        lambda maxsize: {},
        MAPPING | {"evict": "c[k] = v; del c[old]", "shrink": "for k in ks: del c[k]"},
    ),
    Peer("hybridcore", "hybridcore", _from("hybridcore", "Cache"), OWN),
    Peer(TTL, "hybridcore", _from("hybridcore", "Cache", ttl=3600), OWN),
    Peer("hybridcore LRU", "hybridcore", _hybridcore_lru, OWN, needs="hybridcore:Weights"),
    Peer("cachebox LRU", "cachebox", _from("cachebox", "LRUCache"), CACHEBOX),
    Peer("cachebox LFU", "cachebox", _from("cachebox", "LFUCache"), CACHEBOX),
    Peer("cachebox TTL", "cachebox", _from("cachebox", "TTLCache", 3600), CACHEBOX),
    Peer("lru-dict", "lru-dict", _from("lru", "LRU"), MAPPING | {"shrink": "c.set_size(v)"}),
    Peer(
        "lru_cache",
        None,
        lambda maxsize: functools.lru_cache(maxsize)(_identity),
        dict.fromkeys(("get", "evict", "read"), "c(k)"),
    ),
    Peer("cachetools LRU", "cachetools", _from("cachetools", "LRUCache"), MAPPING, wants_lock=True),
    Peer("cachetools LFU", "cachetools", _from("cachetools", "LFUCache"), MAPPING, wants_lock=True),
    Peer("moka", "moka-py", _from("moka_py", "Moka"), {"get": "c.get(k)", "set": "c.set(k, v)"}),
    Peer(
        "theine", "theine", _from("theine", "Cache"), {"get": "c.get(k)[0]", "set": "c.set(k, v)"}
    ),
]


def _lmdb(directory: Path) -> Any:
    import lmdb

    return closing(lmdb.open(str(directory), map_size=4 << 30, sync=False, max_spare_txns=2))


def _sqlite(directory: Path) -> Any:
    connection = sqlite3.connect(directory / "cache.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS entry (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID"
    )
    return closing(connection)


def _diskcache(directory: Path) -> Any:
    import diskcache

    return closing(diskcache.Cache(directory, size_limit=4 << 30))


def _hybridcore_lmdb(directory: Path) -> Any:
    from hybridcore import Lmdb

    return closing(Lmdb(directory, max_bytes=4 << 30))


DISK = [
    Peer(
        "py-lmdb",
        "lmdb",
        _lmdb,
        {
            "get": "t = c.begin(); t.get(k); del t",
            "get_many": "t = c.begin(); {k: t.get(k) for k in ks}; del t",
            "view": "t = c.begin(buffers=True); t.get(k).cast('f'); del t",
            "set": "with c.begin(write=True) as t: t.put(k, v)",
            "set_many": "with c.begin(write=True) as t: t.cursor().putmulti(items.items())",
        },
    ),
    Peer(
        "py-lmdb buffers",
        "lmdb",
        _lmdb,
        {
            "get": "t = c.begin(buffers=True); bytes(t.get(k, b'')); del t",
            "set_many": "with c.begin(write=True) as t: t.cursor().putmulti(items.items())",
        },
    ),
    Peer(
        "hybridcore",
        "hybridcore",
        _hybridcore_lmdb,
        {
            "get": "c.get(k)",
            "get_many": "c.get_many(ks)",
            "view": "with c.view(k): pass",
            "set": "c.put(k, v)",
            "set_many": "c.put_many(items)",
        },
    ),
    Peer(
        "diskcache",
        "diskcache",
        _diskcache,
        {
            "get": "c.get(k)",
            "get_many": "{k: c.get(k) for k in ks}",
            "view": "c.get(k)",
            "set": "c.set(k, v)",
            "set_many": "with c.transact():\n    for k, v in items.items(): c.set(k, v)",
        },
    ),
    Peer(
        "sqlite3",
        None,
        _sqlite,
        {
            "get": "c.execute('SELECT v FROM entry WHERE k = ?', (k,)).fetchone()",
            "get_many": (
                "dict(c.execute('SELECT k, v FROM entry WHERE k IN (?' "
                "+ ', ?' * (len(ks) - 1) + ')', ks))"
            ),
            "set": "c.execute('REPLACE INTO entry VALUES (?, ?)', (k, v))",
            "set_many": (
                "c.execute('BEGIN')\n"
                "c.executemany('REPLACE INTO entry VALUES (?, ?)', items.items())\n"
                "c.execute('COMMIT')"
            ),
        },
    ),
]
