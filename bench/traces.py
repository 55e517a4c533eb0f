"""Traces: which keys were asked for, in order, with their sizes and costs, read from a file.

| File | Holds |
|---|---|
| ``.npz`` | arrays ``keys`` (whole numbers or strings) and, if known, ``sizes`` and ``cost`` |
| ``.csv`` | key, size and cost; the last two may be missing, and a first line may name them |
| ``.oracleGeneral``, ``.oracleGeneral.bin``, both with ``.zst`` too | libCacheSim's records |
| ``.lis`` | the ARC traces: ``start count ignored request``, ``count`` blocks a line |
"""

from __future__ import annotations

import csv
import zipfile
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHIPPED = Path(__file__).parents[1] / "hybridcore" / "data" / "mooncake_conv.npz"

ORACLE_RECORD = np.dtype([("time", "<u4"), ("key", "<u8"), ("size", "<u4"), ("next", "<i8")])

Columns = tuple[Any, Any, Any]  # keys, sizes or None, costs or None


class TraceError(Exception):
    """The file is no trace, or cannot be read."""


@dataclass(frozen=True)
class Trace:
    """Requests in order: ``keys`` are numbered from 0 as they first appear.

    ``sizes`` holds the size of each request's key (what it first appeared with), ``costs`` what it
    costs to miss that request; None where the file does not tell.
    """

    name: str
    keys: np.ndarray
    sizes: np.ndarray | None = None
    costs: np.ndarray | None = None
    changes: tuple[int, ...] = ()  # positions where another phase begins

    @property
    def unique(self) -> int:
        """How many different keys there are."""
        return int(self.keys.max()) + 1

    @property
    def footprint(self) -> int:
        """The size of all keys together; the number of keys where sizes are unknown."""
        if self.sizes is None:
            return self.unique
        return int(self.sizes[np.unique(self.keys, return_index=True)[1]].sum())


def read_trace(path: Path, limit: int | None = None) -> Trace:
    """Read the first ``limit`` requests of a trace.

    Raises:
        TraceError: no such file, not of a known form, or without a single request.
    """
    found = [(suffix, read) for suffix, read in FORMATS.items() if path.name.endswith(suffix)]
    if not found:
        raise TraceError(f"unknown kind of trace {path}: expected one of {', '.join(FORMATS)}")
    (suffix, read), *_ = found
    try:
        keys, sizes, costs = read(path, limit)
    except OSError as error:
        raise TraceError(f"cannot read the trace {path}: {error.strerror or error}") from error
    except (ValueError, IndexError, OverflowError, EOFError, zipfile.BadZipFile) as error:
        raise TraceError(f"the trace {path} is no {suffix} file as expected: {error}") from error
    if not len(keys):
        raise TraceError(f"the trace {path} has no requests")
    return make_trace(path.name.removesuffix(suffix), keys, sizes, costs)


def make_trace(name: str, keys: Any, sizes: Any = None, costs: Any = None) -> Trace:
    """Number the keys by first appearance, and give each the size it first appeared with."""
    _, first, numbers = np.unique(np.asarray(keys), return_index=True, return_inverse=True)
    numbered = np.argsort(np.argsort(first))[numbers.reshape(-1)]
    if sizes is not None:
        sizes = np.maximum(np.asarray(sizes).astype(np.int64)[np.sort(first)][numbered], 1)
    if costs is not None:
        costs = np.asarray(costs).astype(np.float64)
        if not (costs > 0).all():
            raise TraceError(f"the costs of the trace {name} are expected to be above 0")
    return Trace(name, numbered, sizes, costs)


def chained(traces: list[Trace]) -> Trace:
    """All traces, one after the other; those of the same name share their keys."""
    offsets: dict[str, int] = {}
    total = 0
    for trace in traces:
        if trace.name not in offsets:
            offsets[trace.name] = total
            total += trace.unique
    keys = np.concatenate([trace.keys + offsets[trace.name] for trace in traces])
    sizes, costs = (
        None if any(column is None for column in columns) else np.concatenate(columns)
        for columns in ([t.sizes for t in traces], [t.costs for t in traces])
    )
    changes = np.cumsum([len(trace.keys) for trace in traces[:-1]]).tolist()
    whole = make_trace("+".join(trace.name for trace in traces), keys, sizes, costs)
    return replace(whole, changes=tuple(changes))


def _from_numpy(path: Path, limit: int | None) -> Columns:
    with path.open("rb") as file:
        found = np.load(file, allow_pickle=False)
        if "keys" not in getattr(found, "files", ()):
            raise ValueError("there is no array 'keys'")
        keys, sizes, costs = (
            found[name][:limit] if name in found.files else None
            for name in ("keys", "sizes", "cost")
        )
    if keys.ndim != 1 or keys.dtype.kind not in "iuSU":
        raise ValueError("'keys' is no one-dimensional array of whole numbers or strings")
    for column in (sizes, costs):
        if column is not None and column.shape != keys.shape:
            raise ValueError(f"there are {len(keys)} keys, but {column.size} sizes or costs")
    return keys, sizes, costs


def _from_csv(path: Path, limit: int | None) -> Columns:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = ([cell.strip() for cell in row] for row in csv.reader(lines) if row)
        first = next(rows, None)
        if first is None:
            return [], None, None
        columns = ["key", "size", "cost"][: len(first)]
        if first[0].lower() == "key":
            columns = [cell.lower() for cell in first]
        else:
            rows = chain([first], rows)
        table = [dict(zip(columns, row, strict=False)) for row in islice(rows, limit)]
    try:
        return (
            [row["key"] for row in table],
            [int(row["size"]) for row in table] if "size" in columns else None,
            [float(row["cost"]) for row in table] if "cost" in columns else None,
        )
    except KeyError as error:
        raise ValueError(f"a line has no {error.args[0]}") from error


def _from_oracle_general(path: Path, limit: int | None) -> Columns:
    with path.open("rb") as file:
        return _oracle_columns(file, limit)


def _from_compressed_oracle_general(path: Path, limit: int | None) -> Columns:
    try:
        import zstandard
    except ImportError as error:
        raise TraceError(f"to read {path}, install zstandard") from error
    try:
        with zstandard.open(path) as file:
            return _oracle_columns(file, limit)
    except zstandard.ZstdError as error:
        raise ValueError(error) from error


def _oracle_columns(file: Any, limit: int | None) -> Columns:
    records = file.read() if limit is None else file.read(limit * ORACLE_RECORD.itemsize)
    if len(records) % ORACLE_RECORD.itemsize:
        raise ValueError(f"its length is no multiple of {ORACLE_RECORD.itemsize} bytes")
    table = np.frombuffer(records, ORACLE_RECORD)
    return table["key"], table["size"], None


def _from_arc(path: Path, limit: int | None) -> Columns:
    def blocks() -> Iterator[int]:
        with path.open(encoding="ascii") as lines:
            for number, line in enumerate(lines, 1):
                cells = line.split()
                if len(cells) not in (0, 4):
                    raise ValueError(f"line {number} has {len(cells)} numbers instead of 4")
                if cells:
                    start, count = int(cells[0]), int(cells[1])
                    yield from range(start, start + count)

    return np.fromiter(islice(blocks(), limit), np.int64), None, None


FORMATS: dict[str, Callable[[Path, int | None], Columns]] = {
    ".npz": _from_numpy,
    ".csv": _from_csv,
    ".oracleGeneral": _from_oracle_general,
    ".oracleGeneral.bin": _from_oracle_general,
    ".oracleGeneral.zst": _from_compressed_oracle_general,
    ".oracleGeneral.bin.zst": _from_compressed_oracle_general,
    ".lis": _from_arc,
}
