"""The names that every part of diskcache shares: settings, constants, tags and keys of calls."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridcore.disk.keys import encode_key
from hybridcore.errors import ConfigurationError, KeyEncodingError
from hybridcore.eviction import Weights

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from hybridcore.codec import Codecs


class Constant(tuple[str]):
    """A name that stands for itself."""

    __slots__ = ()

    def __new__(cls, name: str) -> Constant:
        return tuple.__new__(cls, (name,))

    def __repr__(self) -> str:
        return self[0]


ENOVAL: Any = Constant("ENOVAL")
UNKNOWN: Any = Constant("UNKNOWN")

DEFAULT_SETTINGS: dict[str, Any] = {
    "statistics": 0,
    "tag_index": 0,
    "eviction_policy": "least-recently-stored",
    "size_limit": 2**30,
    "cull_limit": 10,
    "sqlite_auto_vacuum": 1,
    "sqlite_cache_size": 2**13,
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 2**26,
    "sqlite_synchronous": 1,
    "disk_min_file_size": 2**15,
    "disk_pickle_protocol": 5,
}
"""What may be given to `Cache`; most of SQLite and of files are kept and have no effect."""

EVICTION_POLICY: dict[str, Weights | None] = {
    "none": None,
    "least-recently-stored": Weights(),
    "least-recently-used": Weights.lru(),
    "least-frequently-used": Weights.lfu(),
}
"""What the tier evicts by. "least-recently-stored", the default, is given the default of `Lmdb`."""

UNBOUNDED = 2**40
"""Bytes that a cache of the eviction policy "none" may take before it evicts after all."""

SYNCED = 2
"""From this ``sqlite_synchronous`` on, FULL in SQLite, each write survives a power failure."""

KEPT: dict[str, Any] = {"eviction_policy": "none", "sqlite_synchronous": SYNCED}
"""The settings of what is no cache but data: `Index` and `Deque`."""


class Timeout(Exception):
    """Never raised: who writes waits for the other writers of the host."""


class UnknownFileWarning(UserWarning):
    """Never given: there are no files beside the data file."""


class EmptyDirWarning(UserWarning):
    """Never given: there are no directories beneath the cache's own."""


class Disk:
    """The way values are stored; here `hybridcore.Codecs` does that, so none can be made."""

    def __init__(self, *args: object, **options: object) -> None:
        raise ConfigurationError(
            "values are stored by hybridcore.Codecs here, not by a Disk: give "
            "Cache(codecs=Codecs(...)) your own codecs, or leave disk= out"
        )


class JSONDisk(Disk):
    """Not needed: lists, dicts, text and numbers are stored as plain data anyway."""


def check_disk(disk: object) -> None:
    """Refuse any `Disk` but the one that stands for the default."""
    if disk is not None and disk is not Disk:
        raise ConfigurationError(
            f"disk is expected to be left out, got {disk!r}: plain data is stored without it, "
            "and your own types by Cache(codecs=Codecs(Codec(...)))"
        )


def transact(self: object, retry: bool = False) -> Any:
    """Refuse: no transaction of the disk stays open while other code runs."""
    raise NotImplementedError(
        "there is no transact() here. Use set_many, get_many and delete_many for batches; add, "
        "incr, decr, pop, push and pull, which are one transaction each; or Lock"
    )


def full_name(function: Callable[..., Any]) -> str:
    """The name under which results of a function are cached."""
    return f"{function.__module__}.{function.__qualname__}"


def stored_tag(tag: Any) -> str | None:
    """A tag as text; text is itself, and only what is not starts with NUL."""
    if tag is None or (type(tag) is str and not tag.startswith("\0")):
        return tag
    if type(tag) in (str, int, float, bytes):
        return f"\0{tag!r}"
    raise TypeError(f"a tag is expected to be str, int, float or bytes, got {tag!r}")


def original_tag(tag: str | None) -> Any:
    """What `stored_tag` was given."""
    if tag is None or not tag.startswith("\0"):
        return tag
    try:
        return ast.literal_eval(tag[1:])
    except (ValueError, SyntaxError):
        return float(tag[1:]) if tag[1:] in ("inf", "-inf", "nan") else tag


def key_of_call(
    codecs: Codecs,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    typed: bool,
    ignore: Collection[Any],
) -> tuple[Any, ...]:
    """The key for the result of a call; arguments that are no keys count by their stored form."""
    positional = [arg for index, arg in enumerate(args) if index not in ignore]
    named = sorted((key, value) for key, value in kwargs.items() if key not in ignore)
    parts = [*positional, None, *(part for pair in named for part in pair)]
    key = [name, *(_as_key(codecs, part) for part in parts)]
    if typed:
        values = [*positional, *(value for _, value in named)]
        key += [f"{type(value).__module__}.{type(value).__qualname__}" for value in values]
    return tuple(key)


def _as_key(codecs: Codecs, value: Any) -> Any:
    try:
        encode_key(value)
    except KeyEncodingError:
        code, payload = codecs.encode(value)
        return "\0value", code, b"".join(payload)
    return value


def originals(directory: Path) -> list[Path]:
    """The directories in which diskcache itself keeps a database: this one, or shards beneath."""
    found = [directory, *sorted(directory.glob("[0-9][0-9][0-9]"))]
    return [place for place in found if (place / "cache.db").is_file()]


def refuse_original(directory: str) -> None:
    """Refuse a directory that diskcache itself wrote."""
    if originals(Path(directory)):
        raise ConfigurationError(
            f"{directory!r} was written by diskcache itself. Choose another directory, and copy "
            "the entries with migrate(old_directory, new_cache)"
        )
