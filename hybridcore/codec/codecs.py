"""`Codecs` chooses how a value is stored and reads it back; `Codec` adds a type to it."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from hybridcore._native import is_plain, is_well_formed
from hybridcore.errors import ConfigurationError, DecodeError, EncodeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore.codec.trees import Trees

T = TypeVar("T")

Payload: TypeAlias = tuple[bytes | memoryview, ...]
"""Flat buffers to be written one after the other; their `len` is their size in bytes."""

RAW: Final = 0
TEXT: Final = 1
MSGPACK: Final = 2
ARRAY: Final = 3
PICKLE: Final = 4
FIRST_CUSTOM: Final = 64

_SHORTEST_KEY = 16
_PLAIN = (type(None), bool, int, float, str, bytes, list, dict)


@dataclass(frozen=True, slots=True)
class Codec(Generic[T]):
    """Stores values of exactly one type, at the top of a record or anywhere inside a value.

    - ``code``: 64 to 255; stored with the value, so it must keep its meaning
    - ``type``: the exact class; subclasses need a codec of their own
    - ``encode``: value -> bytes
    - ``decode``: bytes -> a value of that very type

    >>> from pathlib import PurePosixPath
    >>> paths = Codec(64, PurePosixPath, bytes, lambda data: PurePosixPath(data.decode()))

    Raises:
        ConfigurationError: the code is not free for applications, the type is plain data, or
            either function cannot be called.
    """

    code: int
    type: builtins.type[T]
    encode: Callable[[T], bytes | bytearray | memoryview]
    decode: Callable[[bytes], T]

    def __post_init__(self) -> None:
        if builtins.type(self.code) is not int or not FIRST_CUSTOM <= self.code <= 255:
            raise ConfigurationError(
                f"the code of a codec is expected to be an int from {FIRST_CUSTOM} to 255, "
                f"got {self.code!r}"
            )
        if not isinstance(self.type, builtins.type):
            raise ConfigurationError(f"a codec is expected to name a class, got {self.type!r}")
        if self.type in _PLAIN:
            raise ConfigurationError(
                f"{self.type.__name__} is plain data and takes no codec; "
                "wrap the values in a class of your own"
            )
        for function in (self.encode, self.decode):
            if not callable(function):
                raise ConfigurationError(f"a codec is expected to name functions, got {function!r}")


class Codecs:
    """An immutable set of codecs; threads may share it.

    ``custom`` are `Codec` objects for further types, and classes (dataclasses, msgspec Structs,
    named tuples, enums) that cannot be found by their name because they are local to a function.

    ``pickle_key``, at least 16 secret bytes, opts in to pickle for values that nothing else
    stores. Whoever knows the key and can write to the disk tier runs code in this process.

    Raises:
        ConfigurationError: a code, type or class name occurs twice, or the key is too short.
    """

    def __init__(self, *custom: Codec[Any] | type, pickle_key: bytes | None = None) -> None:
        self._custom = custom
        self._pickle_key = _checked_key(pickle_key)
        self._by_code: dict[int, Codec[Any]] = {}
        self._by_type: dict[type, Codec[Any]] = {}
        self._classes: list[type] = []
        for item in custom:
            if isinstance(item, type):
                self._classes.append(item)
            elif isinstance(item, Codec):
                self._add(item)
            else:
                raise ConfigurationError(f"expected a Codec or a class, got {item!r}")
        if self._classes:
            from hybridcore.codec.classes import by_name

            self._registered = by_name(self._classes)
        else:
            self._registered = {}

    def encode(self, value: object) -> tuple[int, Payload]:
        """Return the codec number and the payload; bytes and arrays are not copied.

        Raises:
            EncodeError: no codec can store the value or something in it; names the type.
        """
        try:
            if is_plain(value):
                kind = type(value)
                if kind is bytes:
                    return RAW, (value,)  # type: ignore[return-value]  # its type is bytes
                if kind is str:
                    return TEXT, (value.encode(),)  # type: ignore[attr-defined]  # its type is str
                return MSGPACK, (self._pack(value),)
            return self._encode_other(value)
        except EncodeError:
            raise
        except Exception as error:
            raise EncodeError(
                f"cannot store a {type(value).__qualname__}: {_said(error)}"
            ) from error

    def decode(self, code: int, payload: bytes | memoryview, *, copy: bool = True) -> Any:
        """Return the value, which owns its memory.

        ``copy=False`` returns an array as a read-only view of the payload instead, which must
        then outlive it. Everything else is copied all the same.

        Raises:
            DecodeError: the payload is damaged, or names a codec or class unknown here.
        """
        try:
            if code == MSGPACK:
                if is_well_formed(payload):
                    return self._unpack(payload)
                raise DecodeError("malformed MessagePack: truncated, too long or too deep")
            if code == RAW:
                return bytes(payload)
            if code == TEXT:
                return str(payload, "utf-8")
            return self._decode_other(code, payload, copy)
        except DecodeError:
            raise
        except Exception as error:
            raise DecodeError(
                f"cannot read a payload of {len(payload)} bytes with codec {code}: {_said(error)}"
            ) from error

    def __repr__(self) -> str:
        shown = [
            item.__qualname__ if isinstance(item, type) else repr(item) for item in self._custom
        ]
        if self._pickle_key is not None:
            shown.append("pickle_key=<secret>")
        return f"Codecs({', '.join(shown)})"

    def _add(self, codec: Codec[Any]) -> None:
        for taken in (self._by_code.get(codec.code), self._by_type.get(codec.type)):
            if taken is not None:
                raise ConfigurationError(
                    f"each code and each type is expected once, got {taken!r} and {codec!r}"
                )
        self._by_code[codec.code] = codec
        self._by_type[codec.type] = codec

    @cached_property
    def _trees(self) -> Trees:
        from hybridcore.codec.trees import Trees

        return Trees(self._registered, self._leaf_encoder, self._decode_leaf)

    @cached_property
    def _pack(self) -> Callable[[Any], bytes]:
        return self._trees.pack

    @cached_property
    def _unpack(self) -> Callable[[Any], Any]:
        return self._trees.unpack

    def _encode_other(self, value: Any) -> tuple[int, Payload]:
        from hybridcore.codec.refusal import UnknownTypeError

        encode = self._leaf_encoder(type(value))
        try:
            return encode(value) if encode else (MSGPACK, (self._trees.lower_and_pack(value),))
        except UnknownTypeError:
            if self._pickle_key is None:
                raise
            from hybridcore.codec.pickled import encode_pickle

            return PICKLE, encode_pickle(value, self._pickle_key)

    def _leaf_encoder(self, kind: type) -> Callable[[Any], tuple[int, Payload]] | None:
        """What stores the values of a type that MessagePack sees as mere bytes."""
        codec = self._by_type.get(kind)
        if codec is not None:
            return lambda value: (codec.code, (_encoded_by(codec, value),))
        if str(kind.__module__).partition(".")[0] == "numpy":
            from hybridcore.codec.arrays import encode_array

            return lambda value: (ARRAY, encode_array(value))
        return None

    def _decode_leaf(self, code: int, payload: bytes | memoryview, copy: bool = True) -> Any:
        if code == ARRAY:
            from hybridcore.codec.arrays import decode_array

            return decode_array(payload, copy)
        codec = self._by_code.get(code)
        if codec is None:
            raise DecodeError(f"codec {code} is unknown here; pass its Codec to Codecs(...)")
        value = codec.decode(bytes(payload))
        if type(value) is not codec.type:
            raise DecodeError(
                f"codec {code} is expected to return {codec.type.__qualname__}, "
                f"got {type(value).__qualname__}"
            )
        return value

    def _decode_other(self, code: int, payload: bytes | memoryview, copy: bool) -> Any:
        if code != PICKLE:
            return self._decode_leaf(code, payload, copy)
        if self._pickle_key is None:
            raise DecodeError("the value was pickled; opt in to pickle with Codecs(pickle_key=...)")
        from hybridcore.codec.pickled import decode_pickle

        return decode_pickle(payload, self._pickle_key)


def _checked_key(key: bytes | None) -> bytes | None:
    if key is None or (type(key) is bytes and len(key) >= _SHORTEST_KEY):
        return key
    got = f"{len(key)} bytes" if type(key) is bytes else type(key).__name__
    raise ConfigurationError(
        f"pickle_key is expected to be at least {_SHORTEST_KEY} secret bytes, got {got}; "
        "secrets.token_bytes(32) makes one"
    )


def _encoded_by(codec: Codec[T], value: T) -> bytes:
    encoded = codec.encode(value)
    if not isinstance(encoded, (bytes, bytearray, memoryview)):
        raise EncodeError(
            f"codec {codec.code} for {codec.type.__qualname__} is expected to return bytes, "
            f"got {type(encoded).__qualname__}"
        )
    return bytes(encoded)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
