"""Traces: which keys were asked for, in order, read from a file."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import as_file, files
from itertools import islice
from typing import TYPE_CHECKING, Any

from hybridcore.cli import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SHIPPED = "mooncake_conv.npz"


class TraceError(UsageError):
    """The file is no trace, or cannot be read."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The first requests of a trace; ``numbered`` says that its keys are 0, 1, 2 and so on."""

    name: str
    keys: list[str]
    numbered: bool = False


def read_trace(path: Path | None, requests: int) -> Trace:
    """Read the first requests of a trace, of the shipped one if ``path`` is None.

    ``.npz`` holds an array ``keys`` of whole numbers or strings; ``.csv`` has the key in its
    first column, below a header "key" or none; any other file has one key a line.

    Raises:
        TraceError: no such file, not of this form, or without a single key.
    """
    if path is None:
        with as_file(files("hybridcore") / "data" / SHIPPED) as shipped:
            return read_trace(shipped, requests)
    try:
        if path.suffix == ".npz":
            keys, numbered = _from_numpy(path, requests)
        else:
            keys, numbered = list(islice(_from_text(path), requests)), False
    except OSError as error:
        raise TraceError(f"cannot read the trace {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"the trace {path} is not UTF-8 text: {error}") from error
    except csv.Error as error:
        raise TraceError(f"the trace {path} is no CSV: {error}") from error
    if not keys:
        raise TraceError(f"the trace {path} has no keys")
    return Trace(path.stem, keys, numbered)


def _from_numpy(path: Path, requests: int) -> tuple[list[str], bool]:
    import zipfile

    import numpy as np

    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            keys: Any = found["keys"][:requests] if "keys" in getattr(found, "files", ()) else None
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise TraceError(f"the trace {path} is no .npz file: {error}") from error
    if keys is None or keys.ndim != 1 or keys.dtype.kind not in "iuU":
        raise TraceError(
            f"the trace {path} is expected to hold a one-dimensional array 'keys' of whole "
            "numbers or strings"
        )
    numbered = keys.dtype.kind != "U" and keys.size > 0 and int(keys.min()) >= 0
    return [str(key) for key in keys.tolist()], numbered


def _from_text(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows: Iterable[str] = lines
        if path.suffix == ".csv":
            rows = (row[0] for row in csv.reader(lines) if row)
        for number, row in enumerate(rows):
            key = row.strip()
            if key and not (path.suffix == ".csv" and number == 0 and key.lower() == "key"):
                yield key
