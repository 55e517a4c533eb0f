"""Arrays are written from where they lie, and read with one copy or none."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as npst

from hybridcore.codec import Codecs
from hybridcore.errors import EncodeError

if TYPE_CHECKING:
    from collections.abc import Callable

CODECS = Codecs()
ARRAYS = npst.arrays(
    npst.scalar_dtypes() | npst.array_dtypes(max_size=3),
    npst.array_shapes(min_dims=0, min_side=0, max_dims=3, max_side=3),
)


def stored(value: object, codecs: Codecs = CODECS) -> tuple[int, bytes]:
    code, payload = codecs.encode(value)
    return code, b"".join(payload)


def round_trip(value: object, codecs: Codecs = CODECS) -> Any:
    return codecs.decode(*stored(value, codecs))


def equal(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


@given(ARRAYS)
def test_views_and_copies(array: np.ndarray) -> None:
    """A copy owns its memory and can be written, a view is read-only; both are equal."""
    code, payload = stored(array)
    copy = CODECS.decode(code, memoryview(payload))
    view = CODECS.decode(code, memoryview(payload), copy=False)
    assert equal(copy, array)
    assert equal(view, array)
    assert copy.flags.writeable
    assert copy.flags.owndata
    assert not view.flags.writeable


def test_writable_memory_still_gives_a_read_only_view() -> None:
    """A view never lets the reader change the record."""
    code, payload = stored(np.arange(3))
    view = CODECS.decode(code, memoryview(bytearray(payload)), copy=False)
    assert not view.flags.writeable


@pytest.mark.parametrize("order", ["C", "F"])
def test_contiguous_arrays_are_not_copied_on_write(order: Any) -> None:
    """The payload's last buffer is the array's own memory, in C or Fortran layout."""
    array = np.asarray(np.arange(12.0).reshape(3, 4), order=order)
    header, data = CODECS.encode(array)[1]
    assert np.shares_memory(np.frombuffer(data), array)
    assert len(header) % 16 == 0
    assert len(data) == array.nbytes
    restored = round_trip(array)
    assert restored.flags[f"{order}_CONTIGUOUS"]
    assert equal(restored, array)


@pytest.mark.parametrize(
    "array",
    [np.arange(20)[::3], np.arange(12).reshape(3, 4).T[::2], np.broadcast_to(1, (2, 2))],
    ids=["strided", "sliced", "broadcast"],
)
def test_other_arrays_are_made_contiguous(array: np.ndarray) -> None:
    """Strides are not stored; the values come back in C order."""
    assert equal(round_trip(array), array)
    assert round_trip(array).flags.c_contiguous


def test_one_copy_on_read() -> None:
    """Reading 8 MiB allocates 8 MiB once, and a view allocates next to nothing."""
    array = np.zeros(1 << 20)
    code, payload = stored(array)
    assert peak_bytes(lambda: CODECS.decode(code, payload)) < 1.1 * array.nbytes
    assert peak_bytes(lambda: CODECS.decode(code, payload, copy=False)) < 10_000


def test_a_view_of_an_aligned_record_is_aligned() -> None:
    """The data starts 16-byte aligned relative to the payload, whatever the header's length."""
    for dtype in ("f8", "c16", [("a" * n, "f8") for n in range(1, 9)]):
        header, _ = CODECS.encode(np.zeros(3, dtype))[1]
        assert len(header) % 16 == 0


@pytest.mark.parametrize(
    "dtype",
    [
        {"names": ["a", "b"], "formats": ["i1", "f8"], "offsets": [8, 16], "itemsize": 40},
        {"names": ["all", "low"], "formats": ["<u4", "<u2"], "offsets": [0, 0]},
        [(("title", "name"), ">i2"), ("sub", "f4", (2, 3))],
        [("inner", [("x", "M8[us]")])],
        "V0",
        "S0",
    ],
)
def test_structured_dtypes(dtype: Any) -> None:
    """Padding, overlaps, titles, sub-arrays and nesting are all part of the dtype."""
    array = np.zeros(3, dtype)
    restored = round_trip(array)
    assert restored.dtype == array.dtype
    assert restored.dtype.fields == array.dtype.fields
    assert restored.shape == array.shape


def test_aligned_structs() -> None:
    """A dtype made with align=True stays one."""
    array = np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True))
    assert round_trip(array).dtype.isalignedstruct


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([object()]), "holds Python objects"),
        (np.zeros(1, [("a", "O")]), "holds Python objects"),
        (np.zeros(1).view(np.recarray), "numpy"),
        (np.zeros(1, np.dtype("i4", metadata={"a": 1})), "metadata"),
        (np.bytes_(b"a\0"), "NUL"),
        (np.dtype("i4"), "only numpy.ndarray"),
    ],
)
def test_refused(array: object, said: str) -> None:
    """What would come back changed is refused, nested or not."""
    for value in (array, [array]):
        with pytest.raises(EncodeError, match=said):
            CODECS.encode(value)
