"""`Lmdb`, the disk tier: a bounded mapping that every process of the host shares."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import (
    Callable,
    Hashable,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    ValuesView,
)
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore._native.record import Reader, pack, peek
from hybridcore.disk import environment as environments
from hybridcore.disk import ledger
from hybridcore.disk.environment import MapFullError
from hybridcore.disk.keys import decode_key, encode_key, lmdb_key, squeeze
from hybridcore.disk.meta import decode_meta, encode_meta
from hybridcore.errors import ClosedError, ConfigurationError, DiskError, ValueTooLargeError
from hybridcore.stats import DiskStats
from hybridcore.units import Duration, Size, seconds, size_in_bytes

if TYPE_CHECKING:
    import os

    import lmdb
    from typing_extensions import Self

    from hybridcore.codec import Codecs
    from hybridcore.types import Validators

    Transaction = lmdb.Transaction[memoryview]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

_SMALLEST = 128 * 1024
"""Fewer bytes than this would hold little but LMDB's own pages."""
_LARGEST_RECORD = 2**32 - 2**16
"""Bytes; LMDB counts a value's size in 32 bits."""
_MAP_SLACK = 16 * 1024 * 1024
"""Bytes of address space above a quarter more than max_bytes, for pages waiting to be reused."""
_EVICTION_BATCH = 128
"""Records per transaction, so that evicting never holds the writer lock for long."""
_SCAN_BATCH = 512
"""Keys per read transaction while iterating, so that a slow consumer pins no pages."""
_END_OF_TIME = 2**63 - 1024

_MISSING: Any = object()
_NONE = ledger.Evicted()


@dataclass(slots=True)
class _Counts:
    puts: int = 0
    deletes: int = 0
    evictions: int = 0
    expired: int = 0


class Lmdb(Reader[K, V], MutableMapping[K, V]):
    """A bounded cache in a directory, shared by all threads and processes that open it.

    A `MutableMapping` whose entries may expire. Past its ``ttl`` an entry is a miss here; for
    as long as ``stale`` says it is still there for `fetch`. What cannot be read back unharmed
    is a miss and is counted. When more than ``max_bytes`` are used, the entries written longest
    ago are evicted.

    Args:
        directory: made with mode 0700 if missing. On a local disk: LMDB cannot share a
            network file system.
        max_bytes: bytes that entries may take, LMDB's pages included; at least 128 KiB.
        codecs: how values become bytes; by default ``hybridcore.Codecs()``.
        clock: returns the wall clock in nanoseconds, by default ``time.time_ns``. Processes
            compare each other's times, so it must be a wall clock.

    Raises:
        DiskError: the directory is somebody else's, a symlink, damaged, holds another format,
            or cannot be used.
        ConfigurationError: ``max_bytes`` is no size, or too small.
    """

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        max_bytes: Size = "1GiB",
        codecs: Codecs | None = None,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._max_bytes = size_in_bytes(max_bytes)
        if self._max_bytes < _SMALLEST:
            raise ConfigurationError(
                f"max_bytes is expected to be at least {_SMALLEST} bytes, got {self._max_bytes}"
            )
        if codecs is None:
            from hybridcore.codec import Codecs

            codecs = Codecs()
        self._encode = codecs.encode
        self._clock = time.time_ns if clock is None else clock
        self._low_water = self._max_bytes - self._max_bytes // 32
        self._counts = _Counts()
        self._counts_lock = threading.Lock()
        self._directory = Path(directory).absolute()
        map_size = (self._max_bytes + self._max_bytes // 4 + _MAP_SLACK) // 65536 * 65536
        self._environment = environments.acquire(self._directory, map_size)
        self._release = weakref.finalize(self, environments.release, self._environment)
        super().__init__(
            self._environment.gate,
            codecs.decode,
            decode_meta,
            encode_key,
            squeeze,
            self._environment.recover,
            self._clock,
        )

    # -- writes ---------------------------------------------------------------------------

    def put(
        self,
        key: K,
        value: V,
        *,
        ttl: Duration | None = None,
        stale: Duration = 0.0,
        validators: Validators | None = None,
        cost: float = 1.0,
        importance: float = 1.0,
    ) -> None:
        """Store a value; it survives the death of any process once this returns.

        Args:
            ttl: how long it is fresh; None: until evicted.
            stale: how much longer `fetch` may return it; without a ttl it has no effect.
            validators: what the origin sent along.
            cost, importance: what reloading it costs and what it is worth, for eviction.

        Raises:
            KeyEncodingError, EncodeError: it cannot be stored; nothing was changed.
            ValueTooLargeError: it is larger than ``max_bytes``; nothing was changed.
            DiskError: the disk failed or is full; nothing was changed.
        """
        meta = b"" if validators is None else encode_meta(validators)
        self._store([self._packed(key, value, self._times(ttl, stale), meta, cost, importance)])

    def put_many(
        self,
        items: Mapping[K, V] | Iterable[tuple[K, V]],
        *,
        ttl: Duration | None = None,
        stale: Duration = 0.0,
    ) -> None:
        """Store all the items or none, in one transaction.

        Raises:
            KeyEncodingError, EncodeError: one cannot be stored; nothing was changed.
            ValueTooLargeError: together they are larger than ``max_bytes``; nothing was changed.
            DiskError: the disk failed or is full; nothing was changed.
        """
        times = self._times(ttl, stale)
        pairs = items.items() if isinstance(items, Mapping) else items
        records = [self._packed(key, value, times, b"", 1.0, 1.0) for key, value in pairs]
        if records:
            self._store(records)

    def __setitem__(self, key: K, value: V) -> None:
        self.put(key, value)

    def update(self, other: Any = (), /, **more: V) -> None:
        """Store the items of a mapping or of pairs, in one transaction."""
        self.put_many({**dict(other), **more})

    def delete(self, key: K) -> bool:
        """Delete the entry; return whether there was one, expired ones included."""
        return self.delete_many((key,)) == 1

    def delete_many(self, keys: Iterable[K]) -> int:
        """Delete the entries in one transaction; return how many there were."""
        names = [lmdb_key(encode_key(key)) for key in keys]
        if not names:
            return 0
        env = self._open()
        deleted = env.write(
            lambda txn: sum([ledger.remove(env, txn, name) for name in names]), may_grow=True
        )
        self._count(deletes=deleted)
        return deleted

    def __delitem__(self, key: K) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def pop(self, key: K, default: Any = _MISSING) -> Any:
        """Delete the entry and return its fresh value, else ``default`` or KeyError.

        Of several that pop one key at the same time, one gets the value.
        """
        while True:
            record = self.fetch(key)
            if record is None:
                break
            if self._remove_if(key, record.version):
                if record.fresh:
                    return record.value
                break
        if default is _MISSING:
            raise KeyError(key)
        return default

    def clear(self) -> None:
        """Delete every entry in one transaction."""
        env = self._open()
        self._count(deletes=env.write(lambda txn: ledger.clear(env, txn), may_grow=True))

    # -- the whole ------------------------------------------------------------------------

    def __len__(self) -> int:
        """Number of entries on disk, those included that expired but were not yet evicted."""
        env = self._open()
        with env.reading() as txn:
            return ledger.entries(env, txn)

    def __iter__(self) -> Iterator[K]:
        """The keys of fresh entries, in the order of their stored form.

        No snapshot: entries written or deleted meanwhile may or may not be seen.
        """
        for batch in self._batches():
            yield from batch

    def items(self) -> ItemsView[K, V]:
        return _Items(self)

    def values(self) -> ValuesView[V]:
        return _Values(self)

    def stats(self) -> DiskStats:
        """Return a snapshot of what this object counted and of the directory's space."""
        env = self._open()
        with env.reading() as txn:
            entries, used = ledger.entries(env, txn), ledger.used_bytes(env, txn)
        hits, stale_hits, misses, expired, damaged = self.lookups()
        counts = self._counts
        return DiskStats(
            hits=hits,
            stale_hits=stale_hits,
            misses=misses,
            expired=expired,
            damaged=damaged,
            puts=counts.puts,
            deletes=counts.deletes,
            evictions=counts.evictions,
            evicted_expired=counts.expired,
            entries=entries,
            used_bytes=used,
            max_bytes=self._max_bytes,
            file_bytes=env.file_bytes(),
        )

    def sync(self) -> None:
        """Wait until everything written so far would survive a power failure."""
        self._open().sync()

    def close(self) -> None:
        """Sync and close; harmless when called twice."""
        self.close_reader()
        self._release()

    @property
    def directory(self) -> Path:
        """Where the entries are."""
        return self._directory

    @property
    def max_bytes(self) -> int:
        """Bytes that entries may take."""
        return self._max_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"Lmdb({str(self._directory)!r}, max_bytes={self._max_bytes}{state})"

    # -- beneath --------------------------------------------------------------------------

    def _open(self) -> environments.Environment:
        if self.closed:
            raise ClosedError("the disk tier was used after close()")
        return self._environment

    def _count(self, *, puts: int = 0, deletes: int = 0, evicted: ledger.Evicted = _NONE) -> None:
        with self._counts_lock:
            self._counts.puts += puts
            self._counts.deletes += deletes
            self._counts.evictions += evicted.fresh
            self._counts.expired += evicted.expired

    def _times(self, ttl: Duration | None, stale: Duration) -> tuple[int, int, int]:
        """(stored_at, fresh_until, expires_at); 0 is never, so no other time may be 0."""
        now = self._clock()
        if ttl is None:
            return now, 0, 0
        fresh = seconds(ttl)
        kept = fresh + seconds(stale)
        return now, _moment(now, fresh), _moment(now, kept)

    def _packed(
        self,
        key: K,
        value: V,
        times: tuple[int, int, int],
        meta: bytes,
        cost: float,
        importance: float,
    ) -> tuple[bytes, bytearray]:
        form = encode_key(key)
        code, payload = self._encode(value)
        size = sum(map(len, payload)) + len(form) + len(meta)
        limit = min(self._max_bytes - _SMALLEST // 4, _LARGEST_RECORD)
        if size > limit:
            raise ValueTooLargeError(
                f"the entry takes {size} bytes on disk, more than the {limit} that "
                f"max_bytes={self._max_bytes} allows one entry"
            )
        return lmdb_key(form), pack(form, code, payload, meta, *times, cost, importance)

    def _store(self, records: list[tuple[bytes, bytearray]]) -> None:
        """Write the records and make room: at the end no more than max_bytes are used."""
        size = sum(len(record) for _, record in records)
        if size > self._max_bytes:
            raise ValueTooLargeError(
                f"put_many was given {size} bytes, more than max_bytes={self._max_bytes}: it "
                "would evict its own entries. Put fewer at a time"
            )
        env = self._open()

        def work(txn: Transaction) -> ledger.Evicted:
            ledger.store(env, txn, records)
            return self._evict(txn, self._max_bytes)

        evicted = self._write_with_room(work, size)
        self._count(puts=len(records), evicted=evicted)
        while not evicted.done:
            evicted = env.write(lambda txn: self._evict(txn, self._max_bytes), may_grow=True)
            self._count(evicted=evicted)

    def _evict(self, txn: Transaction, allowed: int) -> ledger.Evicted:
        """One batch, if more than allowed is used."""
        env = self._environment
        if ledger.used_bytes(env, txn) <= allowed:
            return _NONE
        target = min(allowed, self._low_water)
        evicted = ledger.evict(env, txn, target, _EVICTION_BATCH, self._clock())
        return ledger.Evicted(
            evicted.fresh, evicted.expired, ledger.used_bytes(env, txn) <= allowed
        )

    def _write_with_room(self, work: Callable[[Transaction], T], size: int) -> T:
        """Write; when the map is full, evict and try again."""
        env = self._environment
        for allowed in (max(0, self._low_water - 2 * size), 0):
            try:
                return env.write(work)
            except MapFullError:
                self._refuse_if_pinned()
                self._make_room(allowed)
        return env.write(work, may_grow=True)

    def _make_room(self, allowed: int) -> None:
        env = self._environment
        evicted = ledger.Evicted(done=False)
        while not evicted.done:
            evicted = env.write(lambda txn: self._evict(txn, allowed), may_grow=True)
            self._count(evicted=evicted)
        for _ in range(2):
            env.write(lambda txn: ledger.touch_counter(env, txn), may_grow=True)

    def _refuse_if_pinned(self) -> None:
        process = self._environment.pinned_by()
        if process is not None:
            raise DiskError(
                f"{str(self._directory)!r} is full: process {process} has been reading it for "
                "long and holds pages that could be reused. End that process's read transaction"
            )

    def _remove_if(self, key: K, version: int) -> bool:
        """Delete the entry if it is still this version."""
        env = self._open()
        name = lmdb_key(encode_key(key))

        def work(txn: Transaction) -> bool:
            record = txn.get(name, None, env.data)
            header = None if record is None else peek(record)
            return header is not None and header[0] == version and ledger.remove(env, txn, name)

        removed = env.write(work, may_grow=True)
        self._count(deletes=int(removed))
        return removed

    def _batches(self) -> Iterator[list[K]]:
        """Keys of fresh entries, batch by batch, each read in a transaction of its own."""
        after = b""
        while True:
            env = self._open()
            now = self._clock()
            seen = []
            with env.reading() as txn, txn.cursor(env.data) as cursor:
                if not (cursor.set_range(after) if after else cursor.first()):
                    return
                if cursor.key() == after and not cursor.next():
                    return
                for name, record in islice(cursor, _SCAN_BATCH):
                    seen.append((bytes(name), peek(record)))
            keys = []
            for after, header in seen:
                if header is not None and (not header[1] or now < header[1]):
                    form = header[3]
                    if lmdb_key(form) == after:
                        keys.append(decode_key(form))
            yield keys
            if len(seen) < _SCAN_BATCH:
                return


class _Items(ItemsView[K, V]):
    """Reads values a batch at a time; entries that vanish meanwhile are left out."""

    _mapping: Lmdb[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        for keys in self._mapping._batches():
            yield from self._mapping.get_many(keys).items()


class _Values(ValuesView[V]):
    """Reads values a batch at a time; entries that vanish meanwhile are left out."""

    _mapping: Lmdb[Any, V]

    def __iter__(self) -> Iterator[V]:
        for keys in self._mapping._batches():
            yield from self._mapping.get_many(keys).values()


def _moment(now: int, seconds_later: float) -> int:
    """A wall clock time in ns, at least 1; 0, which is never, when it is past the year 2262."""
    later = seconds_later * 1e9
    return 0 if now + later >= _END_OF_TIME else max(1, now + int(later))
