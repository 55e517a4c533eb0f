"""NumPy arrays and scalars as a small header followed by the array's own bytes.

    4 bytes     length of the description, little-endian
    description MessagePack: [dtype, shape, layout]; layout is "C", "F" or "scalar"
    zeros       so that the data starts at a multiple of 16
    data        as it lies in memory

A plain dtype is stored as its ``dtype.str``, one with fields or a shape as a map.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from hybridcore._native import is_well_formed
from hybridcore.codec.refusal import UnknownTypeError
from hybridcore.errors import DecodeError

if TYPE_CHECKING:
    from hybridcore.codec.codecs import Payload

_ALIGNMENT = 16
_PREFIX = 4  # bytes
_MAX_DIMENSIONS = 64  # NumPy's own limit
_PLAIN_DTYPE = re.compile(r"[<>|](?:[biufcSUV]\d{1,10}|[mM]8(?:\[\d{0,10}[a-zA-Z]{1,2}\])?)")

_describe = msgspec.msgpack.Encoder().encode
_description = msgspec.msgpack.Decoder(tuple[Any, tuple[int, ...], str]).decode


def encode_array(value: Any) -> Payload:
    """Return the header and the array's own buffer; only one that is not contiguous is copied."""
    kind = type(value)
    if kind is np.ndarray:
        array, layout = value, "C"
        if not array.flags.c_contiguous:
            if array.flags.f_contiguous:
                layout = "F"
            else:
                array = np.ascontiguousarray(array)
    elif isinstance(value, np.generic) and value.dtype.type is kind:
        array, layout = np.asarray(value), "scalar"
        if array.dtype.kind in "SU" and array[()] != value:
            raise UnknownTypeError(kind, "NumPy drops the NUL characters at its end")
    else:
        raise UnknownTypeError(kind, "only numpy.ndarray itself and NumPy's scalars are stored")
    description = _describe((_dtype_as_data(array.dtype), array.shape, layout))
    used = _PREFIX + len(description)
    header = len(description).to_bytes(_PREFIX, "little") + description + bytes(-used % _ALIGNMENT)
    if not array.nbytes:
        return (header,)
    flat = (array.T if layout == "F" else array).reshape(-1)
    return header, memoryview(flat.view(np.uint8))


def decode_array(payload: bytes | memoryview, copy: bool) -> Any:
    """Return the array or scalar: copied once, or a read-only view of the payload."""
    payload = memoryview(payload)
    described = payload[_PREFIX : _PREFIX + int.from_bytes(payload[:_PREFIX], "little")]
    if not is_well_formed(described):
        raise DecodeError("malformed array header")
    data, shape, layout = _description(described)
    dtype = _dtype_from_data(data)
    start = _PREFIX + len(described)
    start += -start % _ALIGNMENT
    fits = len(shape) <= _MAX_DIMENSIONS and min(shape, default=0) >= 0
    if not fits or math.prod(shape) * dtype.itemsize != len(payload) - start:
        raise DecodeError(
            f"an array of shape {shape} and dtype {dtype} does not take "
            f"{len(payload) - start} bytes"
        )
    if layout not in ("C", "F", "scalar") or (layout == "scalar" and shape):
        raise DecodeError(f"unknown array layout {layout!r}")
    order: Any = "F" if layout == "F" else "C"
    array: Any
    if len(payload) > start:
        array = np.ndarray(shape, dtype, buffer=payload, offset=start, order=order)
        if copy or layout == "scalar":
            array = array.copy(order)
        else:
            array.flags.writeable = False
    else:
        array = np.empty(shape, dtype, order=order)
        array.flags.writeable = copy
    return array[()] if layout == "scalar" else array


def _dtype_as_data(dtype: np.dtype[Any]) -> Any:
    if dtype.hasobject:
        raise UnknownTypeError(
            np.ndarray, f"dtype {dtype} holds Python objects", "Convert it to a plain dtype"
        )
    if dtype.metadata:
        raise UnknownTypeError(np.ndarray, f"dtype {dtype} has metadata, which is not stored")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": _dtype_as_data(base), "shape": shape}
    if dtype.names is None:
        if not _PLAIN_DTYPE.fullmatch(dtype.str) or np.dtype(dtype.str) != dtype:
            raise UnknownTypeError(np.ndarray, f"dtype {dtype} is not one of NumPy's own")
        return dtype.str
    fields = [dtype.fields[name] for name in dtype.names]  # type: ignore[index]  # it has names
    return {
        "names": dtype.names,
        "formats": [_dtype_as_data(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "titles": [title for *_, title in ((*field, None)[:3] for field in fields)],
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
    }


def _dtype_from_data(data: Any) -> np.dtype[Any]:
    if isinstance(data, dict):
        if "base" in data:
            return np.dtype((_dtype_from_data(data["base"]), tuple(data["shape"])))
        fields = {
            name: data[name] for name in ("names", "offsets", "titles", "itemsize", "aligned")
        }
        fields["formats"] = [_dtype_from_data(part) for part in data["formats"]]
        return np.dtype(fields)  # type: ignore[call-overload,no-any-return]
    if not isinstance(data, str) or not _PLAIN_DTYPE.fullmatch(data):
        raise DecodeError(f"unknown dtype {data!r}")
    return np.dtype(data)
