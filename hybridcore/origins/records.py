"""Values as the records of the disk tier, for origins that keep bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from hybridcore._native.gate import Gate
from hybridcore._native.reader import Reader
from hybridcore._native.record import pack, seal
from hybridcore.codec import Codecs, Decompressor
from hybridcore.disk.keys import squeeze
from hybridcore.types import Loaded, Validators

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from hybridcore.codec import Compression


class _Meta(msgspec.Struct, omit_defaults=True):
    """What a record carries beside its value, by the names that the disk tier uses."""

    etag: str | None = None
    last_modified: str | None = None
    tags: tuple[str, ...] = ()


class Records:
    """Packs values with all that is known of them, and unpacks what is whole and fresh.

    Args:
        clock: the wall clock that writers and readers share, ns.
    """

    def __init__(
        self, codecs: Codecs | None, compression: Compression | None, clock: Callable[[], int]
    ) -> None:
        codecs = codecs or Codecs()
        self._encode = codecs.encode
        self._compression = compression
        self._clock = clock
        self._read_meta = msgspec.msgpack.Decoder(_Meta).decode
        self._reader: Reader[Any, Any] = Reader(
            Gate(_never),
            codecs.decode,
            self._decode_meta,
            _never,
            squeeze,
            _never,
            clock,
            (compression or Decompressor()).decompress,
        )

    def pack(self, form: bytes, entry: Loaded[Any], ttl: float | None) -> bytearray:
        """The record of the key with this canonical form, fresh for ``ttl`` seconds.

        Raises:
            EncodeError: no codec can store the value.
        """
        code, payload = self._encode(entry.value)
        flags = 0
        if self._compression is not None:
            flags, payload = self._compression.compress(code, payload)
        meta = b""
        known = entry.validators or Validators()
        if entry.tags or known.etag or known.last_modified:
            meta = msgspec.msgpack.encode(_Meta(known.etag, known.last_modified, entry.tags))
        now = self._clock()
        until = 0 if ttl is None else max(1, now + int(ttl * 1e9))
        record = pack(
            form,
            code,
            payload,
            meta,
            now,
            until,
            until,
            1.0 if entry.cost is None else entry.cost,
            1.0 if entry.importance is None else entry.importance,
            flags,
        )
        seal(record, now)
        return record

    def unpack(self, form: bytes, record: bytes | None) -> Loaded[Any] | None:
        """The value with its ttl left; None if it is no fresh, undamaged record of this key.

        It does not tell its cost, which was that of making it, not of getting it from here.
        """
        found = self._reader.unpack(record, form)
        if found is None:
            return None
        importance = None if found.importance == 1.0 else found.importance
        if found.tag is None and importance is None:
            return Loaded(found.value, found.ttl_left, found.validators)
        tags: Any = found.tag or ()  # as _decode_meta says
        return Loaded(found.value, found.ttl_left, found.validators, None, importance, tags)

    def damaged(self) -> int:
        """How many records could not be read: damaged, of another key, or none of ours."""
        return self._reader.lookups()[4]

    def _decode_meta(self, meta: bytes) -> tuple[Validators | None, tuple[str, ...]]:
        try:
            said = self._read_meta(meta)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None, ()
        if said.etag is None and said.last_modified is None:
            return None, said.tags
        return Validators(said.etag, said.last_modified), said.tags


def _never(*_: object) -> NoReturn:
    raise AssertionError("nothing is looked up in a map here")
