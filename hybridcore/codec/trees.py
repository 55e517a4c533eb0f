"""Trees of values as MessagePack, with an extension for every type that MessagePack lacks.

Extension types below 32 hold one MessagePack list, others any bytes. Like codec numbers they
are part of the stored format:

    1 tuple   2 set   3 frozenset   4 dict whose keys are not plain: key, value, key, value
    5 datetime   6 date   7 time   8 timedelta   9 Fraction
    16 dataclass   17 msgspec.Struct   18 named tuple   19 enum member
    32 str with lone surrogates   33 int beyond 64 bits   34 bytearray   35 complex
    36 UUID   37 Decimal   38 msgspec.UNSET   39 a codec number and its payload
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from hybridcore._native import MAX_DEPTH, is_plain, is_well_formed
from hybridcore.codec.classes import DATACLASS, ENUM, NAMEDTUPLE, STRUCT, Classes, shape_of
from hybridcore.codec.refusal import UnknownTypeError
from hybridcore.errors import DecodeError

if TYPE_CHECKING:
    from hybridcore.codec.codecs import Payload

LEAF: Final = 39

_Lower = Callable[[Any, int], Any]
_MICROSECOND = timedelta(microseconds=1)


class Trees:
    """Packs trees and unpacks them.

    ``leaf_encoder`` returns what stores a type as mere bytes, or None; ``decode_leaf`` reads them.
    """

    def __init__(
        self,
        registered: Mapping[str, type],
        leaf_encoder: Callable[[type], Callable[[Any], tuple[int, Payload]] | None],
        decode_leaf: Callable[[int, bytes | memoryview], Any],
    ) -> None:
        self._classes = Classes(registered)
        self._leaf_encoder = leaf_encoder
        self._decode_leaf = decode_leaf
        self._lowerer = lru_cache(maxsize=1024)(self._choose_lowerer)
        self.pack = msgspec.msgpack.Encoder().encode
        self.unpack = msgspec.msgpack.Decoder(ext_hook=self._restore).decode

    def lower_and_pack(self, value: Any) -> bytes:
        """Return the bytes of a tree that is not plain.

        Raises:
            UnknownTypeError: something in it cannot be stored, or it is too deep, which a value
                that contains itself is.
        """
        packed = self.pack(self._lower(value, 0))
        if not is_well_formed(packed):
            raise _too_deep(value)
        return packed

    def _lower(self, value: Any, depth: int) -> Any:
        """Return the same tree made of plain values and extensions only."""
        if is_plain(value):
            return value
        if depth >= MAX_DEPTH:
            raise _too_deep(value)
        kind: Any = type(value)
        return self._lowerer(kind)(value, depth + 1)

    def _choose_lowerer(self, kind: type) -> _Lower:
        leaf = self._leaf_encoder(kind)
        if leaf is not None:
            encode = leaf
            return lambda value, depth: _leaf(*encode(value))
        if kind is list:
            return lambda value, depth: [self._lower(item, depth) for item in list(value)]
        if kind is dict:
            return self._lower_dict
        if kind in _LISTED:
            listed = _LISTED[kind]
            return lambda value, depth: self._listed(listed.code, listed.dump(value), depth)
        if kind in _OPAQUE:
            opaque = _OPAQUE[kind]
            return lambda value, depth: msgspec.msgpack.Ext(opaque.code, opaque.dump(value))
        family = shape_of(kind).family
        return lambda value, depth: self._listed(family, self._classes.dump(value), depth)

    def _listed(self, code: int, items: list[Any], depth: int) -> msgspec.msgpack.Ext:
        if not is_plain(items):
            items = [self._lower(item, depth) for item in items]
        return msgspec.msgpack.Ext(code, self.pack(items))

    def _lower_dict(self, value: dict[Any, Any], depth: int) -> Any:
        pairs = list(value.items())
        if all(is_plain(key) for key, _ in pairs):
            return {key: self._lower(item, depth) for key, item in pairs}
        return self._listed(_DICT, [part for pair in pairs for part in pair], depth)

    def _restore(self, code: int, data: memoryview) -> Any:
        if code in _OPAQUE_BY_CODE:
            return _OPAQUE_BY_CODE[code].load(bytes(data))
        if code == LEAF:
            return self._decode_leaf(data[0], data[1:])
        if code not in _LISTS:
            raise DecodeError(f"unknown extension {code}")
        items = self.unpack(data)
        if type(items) is not list:
            raise DecodeError(f"extension {code} is expected to hold a list")
        if code in _LISTED_BY_CODE:
            return _LISTED_BY_CODE[code].load(items)
        if code == _DICT:
            return dict(zip(items[::2], items[1::2], strict=True))
        return self._classes.load(code, items)


@dataclass(frozen=True, slots=True)
class _Extension:
    """A type, its extension code, and how it is taken apart and put together."""

    type: type
    code: int
    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]


def _leaf(code: int, payload: Payload) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(LEAF, b"".join((bytes((code,)), *payload)))


def _too_deep(value: object) -> UnknownTypeError:
    return UnknownTypeError(
        type(value), f"it is nested deeper than {MAX_DEPTH} levels, or contains itself"
    )


def _dump_zone(value: datetime | time) -> list[Any]:
    """The offset of a fixed zone in microseconds and its name, or the key of a ZoneInfo."""
    zone = value.tzinfo
    if zone is None:
        return [None]
    if type(zone) is ZoneInfo and zone.key is not None:
        return [zone.key]
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]  # what pickle stores
        return [offset // _MICROSECOND, *name]
    raise UnknownTypeError(
        type(zone),
        "only datetime.timezone and zoneinfo.ZoneInfo with a key are stored as time zones",
        "Use zoneinfo.ZoneInfo, or convert with astimezone()",
    )


def _load_zone(zone: str | int | None, *name: str) -> tzinfo | None:
    if zone is None:
        return None
    if isinstance(zone, str):
        return ZoneInfo(zone)
    return timezone(timedelta(microseconds=zone), *name)


def _dump_time(value: datetime | time) -> list[Any]:
    parts = [value.hour, value.minute, value.second, value.microsecond, value.fold]
    return parts + _dump_zone(value)


def _load_time(parts: list[Any]) -> time:
    hour, minute, second, microsecond, fold, *zone = parts
    return time(hour, minute, second, microsecond, _load_zone(*zone), fold=fold)


def _dump_datetime(value: datetime) -> list[Any]:
    return [value.year, value.month, value.day, *_dump_time(value)]


def _load_datetime(parts: list[Any]) -> datetime:
    return datetime.combine(date(*parts[:3]), _load_time(parts[3:]))


def _dump_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


_DICT: Final = 4
_LISTED = {
    extension.type: extension
    for extension in (
        _Extension(tuple, 1, list, tuple),
        _Extension(set, 2, list, set),
        _Extension(frozenset, 3, list, frozenset),
        _Extension(datetime, 5, _dump_datetime, _load_datetime),
        _Extension(date, 6, lambda day: [day.year, day.month, day.day], lambda ymd: date(*ymd)),
        _Extension(time, 7, _dump_time, _load_time),
        _Extension(
            timedelta,
            8,
            lambda span: [span.days, span.seconds, span.microseconds],
            lambda parts: timedelta(*parts),
        ),
        _Extension(
            Fraction,
            9,
            lambda ratio: [ratio.numerator, ratio.denominator],
            lambda parts: Fraction(*parts),
        ),
    )
}
_OPAQUE = {
    extension.type: extension
    for extension in (
        _Extension(
            str,
            32,
            lambda text: text.encode("utf-8", "surrogatepass"),
            lambda data: data.decode("utf-8", "surrogatepass"),
        ),
        _Extension(int, 33, _dump_int, lambda data: int.from_bytes(data, "little", signed=True)),
        _Extension(bytearray, 34, bytes, bytearray),
        _Extension(
            complex,
            35,
            lambda number: struct.pack("<dd", number.real, number.imag),
            lambda data: complex(*struct.unpack("<dd", data)),
        ),
        _Extension(UUID, 36, lambda uuid: uuid.bytes, lambda data: UUID(bytes=data)),
        _Extension(
            Decimal, 37, lambda number: str(number).encode(), lambda data: Decimal(data.decode())
        ),
        _Extension(msgspec.UnsetType, 38, lambda _: b"", lambda _: msgspec.UNSET),
    )
}
_LISTED_BY_CODE = {extension.code: extension for extension in _LISTED.values()}
_OPAQUE_BY_CODE = {extension.code: extension for extension in _OPAQUE.values()}
_LISTS = {*_LISTED_BY_CODE, _DICT, DATACLASS, STRUCT, NAMEDTUPLE, ENUM}
