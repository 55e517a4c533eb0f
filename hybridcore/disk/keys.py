"""Keys as bytes: one canonical form per key, the same in every process, version and year.

A tag byte says the type, the content follows. Keys that are equal in memory have one form:
``1``, ``1.0`` and ``True`` are a single key here as in a dict.

    ========  ==================  =====================================================
    tag       type                content
    ========  ==================  =====================================================
    ``0x01``  None                nothing
    ``0x10``  int below 0         size of the magnitude, magnitude; every bit inverted
    ``0x11``  int from 0 up,      size of the magnitude, magnitude (big-endian, no leading
              bool                zeros); a size of 255 or more is 0xFF and four bytes
    ``0x20``  float that is no    IEEE 754 double, big-endian; negative: every bit
              whole number        inverted, else: the sign bit inverted
    ``0x30``  str                 UTF-8, lone surrogates as three bytes
    ``0x31``  bytes               as it is
    ``0x40``  UUID                16 bytes
    ``0x50``  tuple               per element: four bytes of size, then its form
    ========  ==================  =====================================================

A float that is a whole number takes the form of the int. Ints sort like numbers, and so do
the other floats among themselves; str sorts by code point.

LMDB's keys end at 511 bytes. A form of up to 510 is the LMDB key; of a longer one, the first
495 bytes and its xxh3-128 are (511 bytes, so the two kinds never meet). Each record holds the
whole form, which is compared on every read.
"""

from __future__ import annotations

import struct
from typing import Any
from uuid import UUID

from hybridcore.errors import KeyEncodingError

LONGEST_PLAIN = 510
LONGEST_PREFIX = 495

_NONE = 0x01
_NEGATIVE = 0x10
_NATURAL = 0x11
_FLOAT = 0x20
_STR = 0x30
_BYTES = 0x31
_UUID = 0x40
_TUPLE = 0x50

_SIGN = 1 << 63
_ALL = (1 << 64) - 1
_INVERTED = bytes(range(255, -1, -1))


def encode_key(key: Any) -> bytes:
    """Return the canonical form of a key.

    Raises:
        KeyEncodingError: the key, or an element of it, has none.
    """
    kind: type = type(key)
    form: bytes
    if kind is str:
        form = b"\x30" + key.encode("utf-8", "surrogatepass")
        return form
    if kind is bytes:
        form = b"\x31" + key
        return form
    if kind is int or kind is bool:
        return _encode_int(int(key))
    if kind is tuple:
        parts = [b"\x50"]
        try:
            for element in key:
                form = encode_key(element)
                parts += len(form).to_bytes(4, "big"), form
        except RecursionError:
            raise KeyEncodingError(
                "the tuple is nested too deeply to be a key of the disk tier; flatten it"
            ) from None
        return b"".join(parts)
    if kind is float:
        return _encode_float(key)
    if key is None:
        return b"\x01"
    if kind is UUID:
        form = b"\x40" + key.bytes
        return form
    raise KeyEncodingError(_no_form(kind))


def decode_key(form: bytes) -> Any:
    """Return the key that has this canonical form.

    Raises:
        ValueError: nothing has this form.
    """
    tag, content = form[0], form[1:]
    if tag == _STR:
        return content.decode("utf-8", "surrogatepass")
    if tag == _BYTES:
        return content
    if tag == _NATURAL:
        return _decode_natural(content)
    if tag == _NEGATIVE:
        return -_decode_natural(content.translate(_INVERTED))
    if tag == _FLOAT and len(content) == 8:
        bits = int.from_bytes(content, "big")
        bits ^= _SIGN if bits & _SIGN else _ALL
        return struct.unpack(">d", bits.to_bytes(8, "big"))[0]
    if tag == _UUID:
        return UUID(bytes=content)
    if tag == _TUPLE:
        elements = []
        while content:
            end = 4 + int.from_bytes(content[:4], "big")
            if end > len(content):
                raise ValueError("a tuple ends within an element")
            elements.append(decode_key(content[4:end]))
            content = content[end:]
        return tuple(elements)
    if tag == _NONE and not content:
        return None
    raise ValueError(f"no key has the form {form[:32]!r}")


def lmdb_key(form: bytes) -> bytes:
    """Return what LMDB files this canonical form under."""
    return form if len(form) <= LONGEST_PLAIN else squeeze(form)


def squeeze(form: bytes) -> bytes:
    """Return the 511 bytes that stand for a form of more than 510."""
    from xxhash import xxh3_128_digest

    return form[:LONGEST_PREFIX] + xxh3_128_digest(form)


def _encode_int(number: int) -> bytes:
    magnitude = abs(number)
    size = (magnitude.bit_length() + 7) // 8
    content = bytes([size]) if size < 255 else b"\xff" + size.to_bytes(4, "big")
    content += magnitude.to_bytes(size, "big")
    return b"\x11" + content if number >= 0 else b"\x10" + content.translate(_INVERTED)


def _decode_natural(content: bytes) -> int:
    return int.from_bytes(content[1:] if content[0] < 255 else content[5:], "big")


def _encode_float(number: float) -> bytes:
    if number.is_integer():
        return _encode_int(int(number))
    if number != number:
        raise KeyEncodingError(
            "NaN cannot be a key of the disk tier: it does not equal itself, so it would never "
            "be found again"
        )
    bits = int.from_bytes(struct.pack(">d", number), "big")
    bits ^= _ALL if bits & _SIGN else _SIGN
    return b"\x20" + bits.to_bytes(8, "big")


def _no_form(kind: type) -> str:
    for base in (str, bytes, int, float, tuple, UUID):
        if issubclass(kind, base):
            return (
                f"a key of type {kind.__qualname__} cannot be stored on disk: subclasses of "
                f"{base.__name__} would come back as another type. Convert it with "
                f"{base.__name__}(key)"
                if base is not UUID
                else f"a key of type {kind.__qualname__} cannot be stored on disk: it is a "
                "subclass of UUID. Convert it with UUID(int=key.int)"
            )
    return (
        f"a key of type {kind.__qualname__} cannot be stored on disk. Keys are str, bytes, int, "
        "bool, float, None, UUID and tuples of these; make one of them out of the key, for "
        "example with str(key)"
    )
