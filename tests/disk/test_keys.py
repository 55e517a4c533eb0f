from __future__ import annotations

import enum
import math
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridcore import KeyEncodingError
from hybridcore.disk.keys import decode_key, encode_key, lmdb_key

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.uuids()
)
keys = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=8)


@given(keys)
def test_a_key_comes_back(key):
    """Decoding the canonical form gives an equal key."""
    assert decode_key(encode_key(key)) == key


@given(keys, keys)
def test_forms_are_equal_exactly_when_keys_are(one, other):
    """Two keys share a form if and only if they are one key in a dict."""
    assert (encode_key(one) == encode_key(other)) == (one == other)


@given(st.integers(), st.integers())
def test_ints_sort_like_numbers(one, other):
    """The order of the forms is the order of the ints."""
    assert (encode_key(one) < encode_key(other)) == (one < other)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_fractions_sort_like_numbers(one, other):
    """The order of the forms is the order of the floats that are no whole numbers."""
    if not one.is_integer() and not other.is_integer():
        assert (encode_key(one) < encode_key(other)) == (one < other)


@pytest.mark.parametrize(
    ("key", "form"),
    [
        (None, "01"),
        (-256, "10fdfeff"),
        (0, "1100"),
        (True, "110101"),
        (1.0, "110101"),
        (258, "11020102"),
        (1 << 2040, "11ff0000010001" + "00" * 255),
        (0.5, "20bfe0000000000000"),
        (-0.5, "20401fffffffffffff"),
        (-0.0, "1100"),
        ("tä", "3074c3a4"),
        ("\ud800", "30eda080"),
        (b"\x00\xff", "3100ff"),
        (uuid.UUID(int=7), "40" + "00" * 15 + "07"),
        ((), "50"),
        (("a", (1,)), "50" + "00000002" + "3061" + "00000008" + "50" + "00000003" + "110101"),
    ],
)
def test_the_forms_never_change(key, form):
    """The bytes of each type are fixed: other versions must find what this one wrote."""
    assert encode_key(key).hex() == form


@pytest.mark.parametrize("size", [0, 1, 508, 509, 510, 511, 512, 1 << 20])
def test_keys_of_any_length(disk, size):
    """Keys of 0 to a million bytes are stored, found and listed (Fault 28)."""
    key = b"k" * size
    disk[key] = size
    assert disk[key] == size
    assert disk.get(b"k" * (size + 1)) is None
    assert list(disk) == [key]
    assert disk.delete(key)
    assert len(disk) == 0


def test_long_forms_never_meet_short_ones():
    """Forms up to 510 bytes are LMDB's key, longer ones are always 511 bytes."""
    assert lmdb_key(b"\x31" + b"x" * 509) == b"\x31" + b"x" * 509
    long = [encode_key("x" * size) for size in (510, 511, 5000)]
    assert {len(lmdb_key(form)) for form in long} == {511}
    assert len({lmdb_key(form) for form in long}) == 3


class Text(str):
    __slots__ = ()


class Number(enum.IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (math.nan, "NaN"),
        (("a", math.nan), "NaN"),
        (object(), "object"),
        (Text("a"), r"str\(key\)"),
        (Number.ONE, r"int\(key\)"),
        (1j, "complex"),
        (frozenset(), "frozenset"),
    ],
)
def test_a_key_without_a_form_changes_nothing(disk, key, message):
    """The error names the type and the way out before any state changes (Fault 18)."""
    before = disk.stats()
    for use in (
        lambda: disk.put(key, 1),
        lambda: disk.put_many({"fine": 1, key: 2}),
        lambda: disk.get(key),
        lambda: disk.get_many(["fine", key]),
        lambda: key in disk,
        lambda: disk.delete(key),
    ):
        with pytest.raises(KeyEncodingError, match=message):
            use()
    assert disk.stats() == before


def test_a_bottomless_tuple_is_refused():
    """A tuple nested too deeply is an error, not a crash."""
    key = ()
    for _ in range(100_000):
        key = (key,)
    with pytest.raises(KeyEncodingError, match="nested"):
        encode_key(key)


@pytest.mark.parametrize("key", ["plain", "tä", "\ud800", b"\x00", "", b""])
def test_native_and_python_forms_agree(disk, key):
    """Lookups of str and bytes use a native encoder; it makes the same bytes."""
    disk[key] = "there"
    assert disk[key] == "there"
    assert disk.get((key,)) is None


def test_equal_keys_are_one_entry(disk):
    """1, 1.0 and True are one key, as they are in a dict."""
    disk[1] = "int"
    disk[True] = "bool"
    disk[1.0] = "float"
    assert disk[1] == "float"
    assert list(disk) == [1]
