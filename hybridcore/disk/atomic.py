"""Reads and writes of one entry in one transaction: what nobody can come between."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore._native.packer import Times
from hybridcore._native.reader import Reader
from hybridcore.disk.keys import decode_key, encode_key, lmdb_key
from hybridcore.disk.ledger import Ledger, is_fresh, times_of

if TYPE_CHECKING:
    from hybridcore._native.packer import Packer
    from hybridcore._native.reader import Record
    from hybridcore._native.record import Packed
    from hybridcore.disk.ledger import Change
    from hybridcore.disk.writer import Writer
    from hybridcore.units import Duration

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

_MISSING: Any = object()


class Atomic(Reader[K, V]):
    """The part of `Lmdb` that reads and writes at once.

    Nothing of the user's runs inside a transaction: what has to be decoded is decoded before it,
    and tried again if somebody else wrote meanwhile, or after it.
    """

    _packer: Packer
    _clock: Callable[[], int]

    if TYPE_CHECKING:

        def _open(self) -> Writer: ...

        def _times(self, ttl: Duration | None, stale: Duration = 0.0) -> Times: ...

    def add(
        self,
        key: K,
        value: V,
        *,
        ttl: Duration | None = None,
        stale: Duration = 0.0,
        tag: str | None = None,
    ) -> bool:
        """Store the value unless there is a fresh one; return whether it was stored.

        Of several that add one key at the same time, one stores.
        """
        packed = self._packer.pack(key, value, self._times(ttl, stale), tag=tag)
        return self._alter(key, lambda record: (packed, True) if record is None else (None, False))

    def setdefault(self, key: K, default: Any = None) -> Any:
        """Return the fresh value, or store ``default`` and return that."""
        while True:
            value = self.get(key, _MISSING)
            if value is not _MISSING:
                return value
            if self.add(key, default):
                return default

    def incr(
        self, key: K, delta: float = 1, default: float | None = 0, *, ttl: Duration | None = None
    ) -> Any:
        """Add to a number and return the sum, in one transaction; its ttl and tag stay.

        Args:
            default: what a missing entry counts as; None: raise KeyError.
            ttl: of an entry that was missing.

        Raises:
            KeyError: there is no entry, and no default.
            TypeError: the value is no number; nothing was changed.
        """

        def change(record: Record | None) -> tuple[Packed | None, Any]:
            if record is None:
                if default is None:
                    raise KeyError(key)
                total = default + delta
                return self._packer.pack(key, total, self._times(ttl)), total
            value = record.value
            if not isinstance(value, (int, float)):
                raise TypeError(
                    f"a number is expected to be incremented, got {type(value).__name__}"
                )
            return self._packer.repack(key, value + delta, record), value + delta

        return self._alter(key, change)

    def decr(
        self, key: K, delta: float = 1, default: float | None = 0, *, ttl: Duration | None = None
    ) -> Any:
        """Subtract from a number and return the difference; like `incr` otherwise."""
        return self.incr(key, -delta, default, ttl=ttl)

    def pop(self, key: K, default: Any = _MISSING) -> Any:
        """Delete the entry and return its fresh value, else ``default`` or KeyError.

        Of several that pop one key at the same time, one gets the value.
        """
        form = encode_key(key)
        writer = self._open()
        raw = writer.change(lambda ledger: ledger.pop(lmdb_key(form)))
        writer.count(deletes=int(raw is not None))
        record = self.unpack(raw, form)
        if record is not None and record.fresh:
            return record.value
        if default is _MISSING:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[K, V]:
        """Delete the fresh entry that iteration gives last and return its key and value.

        Raises:
            KeyError: there is none.
        """

        writer = self._open()
        while (last := writer.change(Ledger.pop_last)) is not None:
            writer.count(deletes=1)
            form, raw = last
            record = self.unpack(raw, form)
            if record is not None and record.fresh:
                return decode_key(form), record.value
        raise KeyError("the cache is empty")

    def touch(self, key: K, ttl: Duration | None = None, *, stale: Duration = 0.0) -> bool:
        """Give a fresh entry a new ttl from now on; return whether there was one."""
        times = self._times(ttl, stale)
        form = encode_key(key)
        name = lmdb_key(form)

        def work(ledger: Ledger) -> bool:
            record = ledger.intact(name, form)
            if record is None or not is_fresh(record, times.stored_at):
                return False
            ledger.store(self._packer.retime(name, record, times))
            return True

        return self._open().change(work, size=1)

    def put_off(self, key: K, ttl: float) -> bool:
        """Let a fresh entry be fresh for so many seconds from now on; return whether there was one.

        It stays as old as it is, and is kept past its ttl for as long as it would have been.
        """
        form = encode_key(key)
        name = lmdb_key(form)
        now = self._clock()

        def work(ledger: Ledger) -> bool:
            record = ledger.intact(name, form)
            if record is None or not is_fresh(record, now):
                return False
            stored_at, fresh_until, expires_at = times_of(record)
            until = now + int(ttl * 1e9)
            times = Times(stored_at, until, until + max(0, expires_at - fresh_until))
            ledger.store(self._packer.retime(name, record, times))
            return True

        return self._open().change(work, size=1)

    def outdate(self, key: K, *, change: Change | None = None) -> bool:
        """Let a fresh entry be stale from now on; return whether there was one.

        One that never expires is kept until it is evicted, others as long as they would have been.
        """
        form = encode_key(key)
        name = lmdb_key(form)
        now = self._clock()

        def work(ledger: Ledger) -> bool:
            version = ledger.version
            if change is not None and not change.may_be(ledger.txn):
                return False
            record = ledger.intact(name, form)
            there = record is not None and is_fresh(record, now)
            if there:
                assert record is not None
                stored_at, _, expires_at = times_of(record)
                times = Times(stored_at, now, expires_at)
                ledger.store(self._packer.retime(name, record, times))
            if change is not None:
                change.made(ledger.txn, version, is_new=False, differs=True)
            return there

        return self._open().change(work, size=1)

    def _alter(self, key: K, change: Callable[[Record | None], tuple[Packed | None, T]]) -> T:
        """Have ``change`` look at the fresh record, and store what it wants instead.

        It is asked again when somebody else wrote meanwhile.
        """
        form = encode_key(key)
        unreadable = 0
        while True:
            record = self.fetch(key)
            packed, result = change(record if record is not None and record.fresh else None)
            if packed is None:
                return result
            expected = unreadable if record is None else record.version
            store = partial(
                Ledger.store_if, packed=packed, expected=expected, form=form, now=self._clock()
            )
            found = self._open().change(store, size=len(packed.record))
            if found == expected:
                return result
            unreadable = found
