"""What the codecs store comes back with its exact types."""

from __future__ import annotations

import collections
import contextlib
import enum
import math
import struct
import subprocess
import sys
import threading
import typing
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hybridcore._native import is_plain, is_well_formed
from hybridcore.codec import ARRAY, MSGPACK, PICKLE, RAW, TEXT, Codecs
from hybridcore.errors import DecodeError
from tests.codec.money import MONEY, Money

CODECS = Codecs(MONEY)


@dataclass
class Point:
    x: Any
    y: Any = None


@dataclass(frozen=True, slots=True, eq=True)
class Frozen:
    x: Any
    derived: int = field(default=0, init=False)


class Row(msgspec.Struct):
    a: Any
    b: Any = msgspec.UNSET


class Untracked(msgspec.Struct, gc=False, eq=True):
    a: int


class Pair(typing.NamedTuple):
    left: Any
    right: Any = 2


class Named(collections.namedtuple("NamedBase", "a b")):  # the old spelling counts too
    def total(self) -> int:
        return self.a + self.b


class Colour(enum.Enum):
    RED = "r"
    CRIMSON = "r"  # noqa: PIE796  # an alias, on purpose
    GREEN = (0, 255, 0)


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Nest:
    class Inner(msgspec.Struct):
        a: int


def stored(value: object, codecs: Codecs = CODECS) -> tuple[int, bytes]:
    code, payload = codecs.encode(value)
    return code, b"".join(payload)


def round_trip(value: object, codecs: Codecs = CODECS) -> Any:
    return codecs.decode(*stored(value, codecs))


def same(a: Any, b: Any) -> bool:
    """Equal to the last bit and in every type, NaN and -0.0 and the order of dicts included."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (float, complex)) and not isinstance(a, np.generic):
        pack = lambda n: struct.pack("<dd", complex(n).real, complex(n).imag)  # noqa: E731
        return pack(a) == pack(b)
    if isinstance(a, (np.ndarray, np.generic)):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, (set, frozenset)):
        return len(a) == len(b) and all(any(same(item, other) for other in b) for item in a)
    if isinstance(a, dict):
        return same(list(a), list(b)) and same(list(a.values()), list(b.values()))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (datetime, time)):
        return a.isoformat() == b.isoformat() and a.fold == b.fold and same_zone(a.tzinfo, b.tzinfo)
    if isinstance(a, Decimal):
        return str(a) == str(b)
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, msgspec.Struct):
        return all(same(getattr(a, f), getattr(b, f)) for f in a.__struct_fields__)
    return bool(a == b)


def same_zone(a: tzinfo | None, b: tzinfo | None) -> bool:
    return type(a) is type(b) and repr(a) == repr(b)


ZONES = st.one_of(
    st.none(),
    st.just(timezone.utc),
    st.builds(
        timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)), st.sampled_from("ab")
    ),
    st.sampled_from(["UTC", "Europe/Zurich", "America/New_York"]).map(ZoneInfo),
)
FOLDS = st.sampled_from([0, 1])
ANY_TEXT = st.text(st.characters(codec=None))
HASHABLE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False),
        ANY_TEXT,
        st.binary(),
        st.complex_numbers(allow_nan=False),
        st.decimals(allow_nan=False),
        st.fractions(),
        st.uuids(),
        st.dates(),
        st.builds(lambda t, fold: t.replace(fold=fold), st.datetimes(timezones=ZONES), FOLDS),
        st.builds(lambda t, zone: t.replace(tzinfo=zone), st.times(), ZONES),
        st.timedeltas(),
        st.sampled_from([*Colour, *Level, *Mode, Mode.READ | Mode.WRITE, Mode(0)]),
        st.builds(Money, st.integers()),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner),
        st.frozensets(inner, max_size=3),
        st.builds(Pair, inner, inner),
        st.builds(Frozen, inner),
    ),
    max_leaves=4,
)
ARRAYS = npst.arrays(
    npst.scalar_dtypes() | npst.array_dtypes(max_size=3),
    npst.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=3),
)
TREES = st.recursive(
    st.one_of(HASHABLE, st.floats(), st.binary().map(bytearray), st.decimals(), ARRAYS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(HASHABLE, inner, max_size=4),
        st.sets(HASHABLE, max_size=4),
        st.builds(Point, inner, inner),
        st.builds(Row, inner, inner),
    ),
    max_leaves=12,
)


@given(TREES)
def test_what_goes_in_comes_out(value: object) -> None:
    """Any tree of storable values comes back equal, with the same types all the way down."""
    assert same(round_trip(value), value)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        -0.0,
        2**63,
        2**64 - 1,
        2**64,
        -(2**63) - 1,
        -(2**1000),
        "",
        "\ud800",
        "\ud800\udc00",
        {"\udfff": ["\ud800"]},
        {1: "int", 1.5: "float", None: "none", b"b": "bytes", "s": "str"},
        {(1, "a"): 1, frozenset([2]): 2},
        {"z": 1, "a": 2, "m": 3},
        {(1,): "z", "a": "b", (0,): "y"},
        (),
        [[], {}, (), set()],
        Point(1, [Point(2)]),
        Frozen((1, 2)),
        Row(1),
        Row({1, 2}, b"x"),
        Nest.Inner(1),
        Untracked(3),
        Pair(1),
        Named(1, 2),
        Colour.CRIMSON,
        [Colour.GREEN, Level.LOW, Mode.READ | Mode.WRITE],
        datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Zurich")),
        timedelta.min,
        Decimal("sNaN123"),
        Fraction(-1, 3**60),
        complex(math.nan, -0.0),
        np.float32(1),
        np.float64("nan"),
        np.datetime64("NaT", "25s"),
        np.str_("text"),
        np.array((1, 2.0), [("a", "i4"), ("b", "f8")])[()],
        [np.int8(-1), np.arange(3), {"nested": np.bool_(True)}],
        Money(5),
        [Money(5), {Money(6): (Money(7),)}],
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_values(value: object) -> None:
    """Values at the edges of their types come back too."""
    assert same(round_trip(value), value)


@pytest.mark.parametrize(
    ("value", "code"), [(b"x", RAW), ("x", TEXT), ({}, MSGPACK), (np.zeros(1), ARRAY)]
)
def test_codec_numbers_are_a_stored_format(value: object, code: int) -> None:
    """The numbers that records carry never change their meaning."""
    assert (RAW, TEXT, MSGPACK, ARRAY, PICKLE) == (0, 1, 2, 3, 4)
    assert stored(value)[0] == code


def test_stored_bytes_stay_readable() -> None:
    """Bytes written by version 0.1 are read by every later version."""
    header = b"\x09\0\0\0" + b"\x93\xa3<u2\x91\x02\xa1C" + b"\0\0\0"
    for value, code, payload in (
        ((1, {2}), MSGPACK, bytes.fromhex("c706019201d5029102")),
        (2**64, MSGPACK, bytes.fromhex("c70921000000000000000001")),
        ([date(2020, 1, 2)], MSGPACK, bytes.fromhex("91c7060693cd07e40102")),
        (np.arange(2, dtype="<u2"), ARRAY, header + b"\0\0\1\0"),
    ):
        assert stored(value) == (code, payload)
        assert same(CODECS.decode(code, payload), value)


@given(TREES, st.data())
def test_flipped_bits_and_truncation(value: object, data: st.DataObject) -> None:
    """Damaged bytes of a real value give some value or a DecodeError. Fault 8."""
    code, payload = stored(value)
    damaged = bytearray(payload)
    for _ in range(data.draw(st.integers(0, 3)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(DecodeError):
        CODECS.decode(code, bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    with contextlib.suppress(DecodeError):
        CODECS.decode(code, bytes(damaged))


@given(TREES)
def test_what_is_written_is_well_formed(value: object) -> None:
    """Everything written is well-formed, and nothing is when a byte is missing or added."""
    code, payload = stored(value)
    if code == MSGPACK:
        assert is_well_formed(payload)
        assert not is_well_formed(payload[:-1])
        assert not is_well_formed(payload + b"\xc0")


def test_is_plain_is_about_exact_types() -> None:
    """Only what MessagePack gives back as it was is plain."""
    assert is_plain({"a": [1, 2.0, None, True, b"x", "é", "😀", {}], 2**64 - 1: -(2**63)})
    for value in ((), {1}, 2**64, -(2**63) - 1, "\ud800", "😀\udfff", Level.LOW, {(): 1}):
        assert not is_plain(value)
        assert not is_plain([value])


def test_threads_share_codecs() -> None:
    """Eight threads use one set of codecs from its first use on."""
    codecs = Codecs(MONEY)
    value = [Point(1, {(1, 2): uuid4()}), Money(3), np.arange(5), UUID(int=1)]
    start = threading.Barrier(8)
    wrong: list[object] = []

    def work() -> None:
        start.wait()
        for _ in range(50):
            restored = round_trip(value, codecs)
            if not same(restored, value):
                wrong.append(restored)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_imports_at_use() -> None:
    """msgspec is imported for the first tree, NumPy for the first array, pickle never."""
    code = """
import sys
from hybridcore.codec import Codecs
codecs = Codecs()
codecs.decode(*[0, codecs.encode(b"x")[1][0]])
assert "msgspec" not in sys.modules and "hmac" not in sys.modules
codecs.decode(*[2, codecs.encode([(1, 2)])[1][0]])
assert "msgspec" in sys.modules and "numpy" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
