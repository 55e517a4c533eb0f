"""`Lmdb`, the disk tier: a bounded mapping that every process of the host shares."""

from __future__ import annotations

import random
import time
import weakref
from collections import Counter
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
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore._native.packer import Packer, Times
from hybridcore._native.record import peek
from hybridcore.disk import scan, sharing, upkeep
from hybridcore.disk.admission import Admission, Admitter
from hybridcore.disk.atomic import Atomic
from hybridcore.disk.durability import Durability, checked
from hybridcore.disk.environment import NotAloneError
from hybridcore.disk.eviction import Victims
from hybridcore.disk.keys import LONGEST_PREFIX, decode_key, encode_key, lmdb_key, squeeze
from hybridcore.disk.ledger import Change, Ledger
from hybridcore.disk.meta import decode_meta, encode_meta
from hybridcore.disk.sweeper import Sweeper
from hybridcore.disk.writer import Writer
from hybridcore.errors import (
    ClosedError,
    ConfigurationError,
    KeyEncodingError,
    VersionConflictError,
)
from hybridcore.eviction import Weights
from hybridcore.stats import DiskStats
from hybridcore.units import Duration, Size, seconds, size_in_bytes

if TYPE_CHECKING:
    import os

    from typing_extensions import Self

    from hybridcore._native.record import Packed
    from hybridcore.codec import Codecs, Compression
    from hybridcore.types import Validators

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_SMALLEST = 128 * 1024
"""Fewer bytes than this would hold little but LMDB's own pages."""
_OVERHEAD = 32 * 1024
"""Bytes of LMDB's own that one record may need beside it."""
_LARGEST_RECORD = 2**32 - 2**16
"""Bytes; LMDB counts a value's size in 32 bits."""
_MAP_SLACK = 16 * 1024 * 1024
"""Bytes of address space above a quarter more than max_bytes, for pages waiting to be reused."""


class Lmdb(Atomic[K, V], MutableMapping[K, V]):
    """A bounded cache in a directory, shared by all threads and processes that open it.

    A `MutableMapping` whose entries may expire. Past its ``ttl`` an entry is a miss here; for
    as long as ``stale`` says it is still there for `fetch`. What cannot be read back unharmed
    is a miss and is counted. When more than ``max_bytes`` are used, what has expired goes, then the
    entries that are worth least by `Weights`.

    Args:
        directory: made with mode 0700 if missing. On a local disk: LMDB cannot share a
            network file system.
        max_bytes: bytes that entries may take, LMDB's pages included; at least 128 KiB.
        codecs: how values become bytes; by default ``hybridcore.Codecs()``.
        clock: returns the wall clock in nanoseconds, by default ``time.time_ns``. Processes
            compare each other's times, so it must be a wall clock.
        weights: fixed `Weights` for eviction. By default it learns what to make of recency and
            frequency, and the others weigh as in ``Weights(size=0.5)``.
        admission: what `offer` writes; None: everything.
        compression: makes large values smaller on disk; None: what is written stays as it is. What
            others wrote compressed is read in any case, where its library is installed.
        sweep: how often a thread deletes what has expired, once there are entries with a ttl;
            None: only when room is needed, or by `expire`.
        durability: what the entries survive. ``"process"``: the death of any process, ``kill
            -9`` included; after a power failure with it open, the directory is found empty.
            ``"power"``: that too, each write waits for the disk. ``"none"``: nothing; the first
            process to open the directory finds it empty. Among several, the one that loses most
            decides for all processes, the one that loses least for all openings within one.

    Raises:
        DiskError: the directory is somebody else's, a symlink, damaged, holds another format,
            or cannot be used.
        ConfigurationError: ``max_bytes`` is no size, or too small; ``durability`` is unknown.
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
        weights: Weights | None = None,
        admission: Admission | None = None,
        compression: Compression | None = None,
        sweep: Duration | None = "1m",
        durability: Durability = "process",
    ) -> None:
        durability = checked(durability)
        self._max_bytes = size_in_bytes(max_bytes)
        if self._max_bytes < _SMALLEST:
            raise ConfigurationError(
                f"max_bytes is expected to be at least {_SMALLEST} bytes, got {self._max_bytes}"
            )
        from hybridcore.codec import Codecs, Decompressor

        codecs = codecs or Codecs()
        self._clock = time.time_ns if clock is None else clock
        self._compression = compression
        self._owner = random.getrandbits(63) + 1
        self._directory = Path(directory).absolute()
        map_size = (self._max_bytes + self._max_bytes // 4 + _MAP_SLACK) // 65536 * 65536
        self._environment = sharing.acquire(self._directory, map_size, durability)
        self._release = weakref.finalize(self, sharing.release, self._environment)
        self._packer = Packer(
            codecs.encode,
            None if compression is None else compression.compress,
            encode_key,
            squeeze,
            encode_meta,
            self._clock,
            self._max_bytes,
            min(self._max_bytes - _OVERHEAD, _LARGEST_RECORD),
        )
        victims = Victims(
            self._environment.marks, weights or Weights(size=0.5), learned=weights is None
        )
        self._writer = Writer(self._environment, self._max_bytes, victims, self._clock)
        self._admitter = None if admission is None else Admitter(admission, self._environment.marks)
        self._sweeper = None if sweep is None else Sweeper(self._writer, seconds(sweep))
        super().__init__(
            self._environment.gate,
            codecs.decode,
            decode_meta,
            encode_key,
            squeeze,
            self._environment.recover,
            self._clock,
            (compression or Decompressor()).decompress,
            marks=self._environment.marks,
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
        tag: str | tuple[str, ...] | None = None,
        cost: float = 1.0,
        importance: float = 1.0,
        if_version: int | None = None,
        change: Change | None = None,
    ) -> bool:
        """Store a value; it survives the death of any process once this returns.

        Args:
            ttl: how long it is fresh; None: until evicted.
            stale: how much longer `fetch` may return it; without a ttl it has no effect.
            validators: what the origin sent along.
            tag: a word that `evict_tag` finds it by, or several.
            cost, importance: what reloading it costs and what it is worth, for eviction.
            if_version: store only in the place of an entry of this version, 0 for none.
            change: what else to do in the same transaction, which may call the write off.

        Returns whether it was stored, which only ``change`` can prevent.

        Raises:
            VersionConflictError: the entry is of another version; nothing was changed.
            KeyEncodingError, EncodeError: it cannot be stored; nothing was changed.
            ValueTooLargeError: it is larger than ``max_bytes``; nothing was changed.
            DiskError: the disk failed or is full; nothing was changed.
        """
        packed = self._packer.pack(
            key,
            value,
            self._times(ttl, stale),
            validators=validators,
            tag=tag,
            cost=cost,
            importance=importance,
        )
        writer = self._open()
        if if_version is None:
            if change is not None:
                return self._store_with(writer, packed, change)
            writer.store([packed])
            return True
        store = partial(
            Ledger.store_if,
            packed=packed,
            expected=if_version,
            form=encode_key(key),
            now=self._clock(),
            change=change,
        )
        found = writer.change(store, size=len(packed.record))
        if found != if_version:
            raise VersionConflictError(key, if_version, found)
        return True

    def offer(
        self,
        key: K,
        value: V,
        *,
        ttl: Duration | None = None,
        stale: Duration = 0.0,
        validators: Validators | None = None,
        tag: str | tuple[str, ...] | None = None,
        cost: float = 1.0,
        importance: float = 1.0,
        change: Change | None = None,
    ) -> bool:
        """Store a value if `Admission` finds it worth writing; return whether it was stored.

        What replaces an entry is always stored. Otherwise like `put`.
        """
        packed = self._packer.pack(
            key,
            value,
            self._times(ttl, stale),
            validators=validators,
            tag=tag,
            cost=cost,
            importance=importance,
        )
        writer = self._open()
        if (
            self._admitter is not None
            and self._admitter.judge(packed) != "admitted"
            and not self._is_there(packed.key)
        ):
            return False
        if change is not None:
            return self._store_with(writer, packed, change)
        writer.store([packed])
        return True

    def put_many(
        self,
        items: Mapping[K, V] | Iterable[tuple[K, V]],
        *,
        ttl: Duration | None = None,
        stale: Duration = 0.0,
        tag: str | None = None,
        cost: float = 1.0,
        importance: float = 1.0,
    ) -> None:
        """Store all the items or none, in one transaction.

        Raises:
            KeyEncodingError, EncodeError: one cannot be stored; nothing was changed.
            ValueTooLargeError: together they are larger than ``max_bytes``; nothing was changed.
            DiskError: the disk failed or is full; nothing was changed.
        """
        times = self._times(ttl, stale)
        pairs = items.items() if isinstance(items, Mapping) else items
        records = [
            self._packer.pack(key, value, times, tag=tag, cost=cost, importance=importance)
            for key, value in pairs
        ]
        writer = self._open()
        if records:
            writer.store(records)

    def __setitem__(self, key: K, value: V) -> None:
        self.put(key, value)

    def update(self, other: Any = (), /, **more: V) -> None:
        """Store the items of a mapping or of pairs, in one transaction."""
        self.put_many({**dict(other), **more})

    def delete(self, key: K, *, change: Change | None = None) -> bool:
        """Delete the entry; return whether there was one, expired ones included."""
        if change is None:
            return self.delete_many((key,)) == 1
        name = lmdb_key(encode_key(key))
        writer = self._open()
        there = writer.change(lambda ledger: ledger.remove_with(name, change))
        writer.count(deletes=there)
        return there

    def delete_many(self, keys: Iterable[K]) -> int:
        """Delete the entries in one transaction; return how many there were."""
        names = [lmdb_key(encode_key(key)) for key in keys]
        writer = self._open()
        return writer.delete(names) if names else 0

    def delete_from(self, prefix: str | bytes | tuple[Any, ...]) -> int:
        """Delete the entries whose keys begin so, as in `keys_from`; return how many there were.

        Expired ones are deleted and counted as well. Works in batches, one transaction each.

        Raises:
            KeyEncodingError: the prefix has no stored form, or one of more than 495 bytes.
        """
        form = prefix_form(prefix)
        self._open()
        batches = scan.batches(self._environment, lambda: 0, form)
        return sum(self.delete_many(keys) for keys in batches)

    def __delitem__(self, key: K) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def clear(self) -> None:
        """Delete every entry, at once for everybody.

        Whoever is alone with the directory gets a new file, others pay for every page in use.
        """
        writer = self._open()
        try:
            deleted = upkeep.start_afresh(self._environment)
        except NotAloneError:
            scan.check(self._environment)
            deleted = writer.change(Ledger.clear)
        writer.count(deletes=deleted)

    # -- the whole ------------------------------------------------------------------------

    def expire(self) -> int:
        """Delete what has expired; return how many entries that were."""
        return self._open().expire()

    def evict(self, count: int = 1) -> int:
        """Evict up to ``count`` entries, those worth least first; return how many there were."""
        return self._open().evict(count)

    def evict_tag(self, tag: str) -> int:
        """Delete the entries with this tag; return how many there were. O(number of entries)."""
        writer = self._open()
        return sum(writer.delete(names) for names in scan.tagged(self._environment, tag) if names)

    def tagged(self, tag: str) -> Iterator[list[Any]]:
        """The keys of the entries with a tag, batch by batch. O(number of entries)."""
        self._open()
        for names in scan.tagged(self._environment, tag):
            with self._environment.reading() as txn:
                records = [txn.get(name, None, self._environment.data) for name in names]
                heads = [peek(record) for record in records if record is not None]
            yield [decode_key(head[3]) for head in heads if head is not None]

    def __len__(self) -> int:
        """Number of entries on disk, those included that expired but were not yet evicted."""
        self._open()
        with self._environment.reading() as txn:
            return Ledger(self._environment, txn).entries

    def __iter__(self) -> Iterator[K]:
        """The keys of fresh entries, in the order of their stored form.

        No snapshot: entries written or deleted meanwhile may or may not be seen.
        """
        for batch in self.batches():
            yield from batch

    def keys_from(self, prefix: str | bytes | tuple[Any, ...]) -> Iterator[K]:
        """The keys of fresh entries that begin so, in the order of their stored form.

        A str finds str, bytes find bytes, and a tuple finds tuples with those first elements.

        Raises:
            KeyEncodingError: the prefix has no stored form, or one of more than 495 bytes.
        """
        for batch in self.batches(prefix):
            yield from batch

    def batches(self, prefix: str | bytes | tuple[Any, ...] | None = None) -> Iterator[list[K]]:
        """What iteration and `keys_from` give, as lists; each is read in one transaction."""
        form = b"" if prefix is None else prefix_form(prefix)
        self._open()
        for batch in scan.batches(self._environment, self._clock, form):
            yield batch
            self._open()

    def items(self) -> ItemsView[K, V]:
        return scan.Items(self)

    def values(self) -> ValuesView[V]:
        return scan.Values(self)

    def stats(self) -> DiskStats:
        """Return a snapshot of what this object counted and of the directory's space."""
        self._open()
        env = self._environment
        with env.reading() as txn:
            ledger = Ledger(env, txn)
            entries, used, live = ledger.entries, ledger.used_bytes(), ledger.live_bytes
        hits, stale_hits, misses, expired, damaged = self.lookups()
        counts = self._writer.counts
        verdicts = Counter() if self._admitter is None else self._admitter.verdicts
        return DiskStats(
            hits=hits,
            stale_hits=stale_hits,
            misses=misses,
            expired=expired,
            damaged=damaged + env.damaged,
            puts=counts.puts,
            written_bytes=counts.written_bytes,
            commits=counts.commits,
            deletes=counts.deletes,
            evictions=counts.evicted,
            evicted_bytes=counts.evicted_bytes,
            evicted_expired=counts.expired,
            admitted=verdicts["admitted"],
            rejected_first=verdicts["first"],
            rejected_size=verdicts["size"],
            rejected_rate=verdicts["rate"],
            entries=entries,
            live_bytes=live,
            used_bytes=used,
            max_bytes=self._max_bytes,
            compression=None if self._compression is None else self._compression.stats(),
            **env.space(),
        )

    def sync(self) -> None:
        """Wait until everything written so far would survive a power failure.

        That holds until the next write, unless ``durability`` is ``"power"``; with ``"none"``
        nothing is to survive and this does nothing.

        Raises:
            DiskError: the disk failed, or the directory was removed or replaced.
        """
        self._open()
        self._environment.sync()

    def verify(self) -> list[str]:
        """Return what is wrong with LMDB's pages; an empty list when they are whole.

        Reads the whole file, about 300 MiB a second. Where something looks damaged it is read
        again while writers wait. Entries are checked when they are read, not here.

        Raises:
            DiskError: the file cannot be read, or was removed or replaced.
        """
        self._open()
        return upkeep.verify(self._environment)

    def compact(self) -> int:
        """Give unused space of the file back; return by how many bytes it became smaller.

        Other threads wait meanwhile. The disk needs room for a second copy of the entries.

        Raises:
            DiskError: other processes have the directory open, somebody in this one is reading
                for more than 5 s, or the disk is full; nothing was changed.
        """
        self._open()
        return upkeep.compact(self._environment)

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Write a copy, as of now, into a new directory that `Lmdb` can open.

        Everybody may go on reading and writing meanwhile. The pages that are being copied are not
        used again until then: the file may grow, and much writing may fill it.

        Raises:
            DiskError: the path exists, or cannot be written; nothing was left there.
        """
        self._open()
        upkeep.backup(self._environment, Path(path).absolute())

    def close(self) -> None:
        """Close; what this process wrote is synced, unless it is scratch.

        Harmless when called twice.
        """
        self.close_reader()
        if self._sweeper is not None:
            self._sweeper.stop()
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

    def lease(self, key: K, seconds: float) -> int:
        """Say that this object is about to load the key, and return 0.

        While another one has said so, return a number that stands for it. A lease holds for so
        many seconds of the wall clock, or until `release`. Leases save work and guard nothing: two
        may get one at the same instant, and keys of one of 1024 classes share one.
        """
        self._open()
        now = self._clock()
        name = lmdb_key(encode_key(key))
        return self._environment.marks.lease(
            name, self._owner, now, now + int(seconds * 1_000_000_000)
        )

    def release(self, key: K) -> None:
        """Give back the lease of a key, if this object has it."""
        self._open()
        self._environment.marks.release(lmdb_key(encode_key(key)), self._owner)

    # -- beneath --------------------------------------------------------------------------

    def on_removed(self, listener: Callable[[int, int], object] | None) -> None:
        """Have a listener told how many records this object evicts and expires, by transaction."""
        self._writer.on_removed = listener

    def _open(self) -> Writer:
        if self.closed:
            raise ClosedError("the disk tier was used after close()")
        return self._writer

    def _store_with(self, writer: Writer, packed: Packed, change: Change) -> bool:
        store = partial(Ledger.store_with, packed=packed, change=change)
        return writer.change(store, size=len(packed.record), puts=1)

    def _is_there(self, name: bytes) -> bool:
        with self._environment.reading() as txn:
            return txn.get(name, None, self._environment.data) is not None

    def _times(self, ttl: Duration | None, stale: Duration = 0.0) -> Times:
        times = self._packer.times(ttl, stale)
        if times.expires_at and self._sweeper is not None:
            self._sweeper.start()
        return times


def prefix_form(prefix: str | bytes | tuple[Any, ...]) -> bytes:
    form = encode_key(prefix)
    if not isinstance(prefix, (str, bytes, tuple)) or len(form) > LONGEST_PREFIX:
        raise KeyEncodingError(
            f"a prefix is expected to be a str, bytes or tuple of at most {LONGEST_PREFIX} bytes, "
            f"got {type(prefix).__name__} of {len(form)}"
        )
    return form
