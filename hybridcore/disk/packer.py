"""Keys and values as records: encoded, timed and measured before the disk is touched."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from hybridcore._native.record import Packed, pack, retimed
from hybridcore.disk.keys import LONGEST_PLAIN, encode_key, squeeze
from hybridcore.disk.meta import encode_meta
from hybridcore.errors import ValueTooLargeError
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore._native.reader import Record
    from hybridcore.codec import Codecs, Compression
    from hybridcore.types import Validators

_LARGEST_RECORD = 2**32 - 2**16
"""Bytes; LMDB counts a value's size in 32 bits."""
_OVERHEAD = 32 * 1024
"""Bytes of LMDB's own that one record may need beside it."""
_END_OF_TIME = 2**63 - 1024
_WORTH = struct.Struct("<48xff")
"""Cost and importance in a record's header."""


class Times(NamedTuple):
    """Wall clock, ns; 0 is never, so no other time may be 0."""

    stored_at: int
    fresh_until: int
    expires_at: int


class Packer:
    """Makes records that a directory of ``max_bytes`` can hold."""

    def __init__(
        self,
        codecs: Codecs,
        compression: Compression | None,
        max_bytes: int,
        clock: Callable[[], int],
    ) -> None:
        self._encode = codecs.encode
        self._compression = compression
        self._max_bytes = max_bytes
        self._limit = min(max_bytes - _OVERHEAD, _LARGEST_RECORD)
        self._clock = clock

    def times(self, ttl: Duration | None, stale: Duration = 0.0) -> Times:
        """The times of an entry that is stored now."""
        now = self._clock()
        if ttl is None:
            return Times(now, 0, 0)
        fresh = seconds(ttl)
        kept = fresh + seconds(stale)
        return Times(now, _moment(now, fresh), _moment(now, kept))

    def pack(
        self,
        key: Any,
        value: Any,
        times: Times,
        *,
        validators: Validators | None = None,
        tag: str | None = None,
        cost: float = 1.0,
        importance: float = 1.0,
    ) -> Packed:
        """Make a record.

        Raises:
            KeyEncodingError, EncodeError: the key or the value cannot be stored.
            ValueTooLargeError: the record would be larger than the limit.
        """
        meta = b"" if validators is None and tag is None else encode_meta(validators, tag)
        return self._record(encode_key(key), value, times, meta, cost, importance)

    def repack(self, key: Any, value: Any, record: Record) -> Packed:
        """Make a record with another value that is like the given one otherwise."""
        meta = encode_meta(record.validators, record.tag)
        times = Times(record.stored_at, record.fresh_until, record.expires_at)
        return self._record(encode_key(key), value, times, meta, record.cost, record.importance)

    def retime(self, key: bytes, record: memoryview, times: Times) -> Packed:
        """Make a copy of the record under an LMDB key, with other times."""
        cost, importance = _WORTH.unpack_from(record)
        copy = retimed(record, *times)
        return Packed(key, copy, cost, importance, times.expires_at)

    def _record(
        self, form: bytes, value: Any, times: Times, meta: bytes, cost: float, importance: float
    ) -> Packed:
        code, payload = self._encode(value)
        flags = 0
        if self._compression is not None:
            flags, payload = self._compression.compress(code, payload)
        stored_at, fresh_until, expires_at = times
        name = form if len(form) <= LONGEST_PLAIN else squeeze(form)
        size = sum(map(len, payload)) + len(form) + len(meta)
        if size > self._limit:
            raise ValueTooLargeError(
                f"the entry takes {size} bytes on disk, more than the {self._limit} that "
                f"max_bytes={self._max_bytes} allows one entry"
            )
        record = pack(
            form, code, payload, meta, stored_at, fresh_until, expires_at, cost, importance, flags
        )
        return Packed(name, record, cost, importance, expires_at)


def _moment(now: int, seconds_later: float) -> int:
    """A wall clock time in ns, at least 1; 0, which is never, when it is past the year 2262."""
    later = seconds_later * 1e9
    return 0 if now + later >= _END_OF_TIME else max(1, now + int(later))
