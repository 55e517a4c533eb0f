"""What a trace asks for, as arrays: of a recording, or of any other file with keys."""

from __future__ import annotations

import csv
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hybridcore.cli.trace import TraceError, read_trace

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

SUFFIX = ".hctrace"
EVERYTHING = 1 << 62


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests in order; sizes, operations and times are None where the file does not tell.

    ``hashes`` are spread evenly and stand for the keys. ``sample`` is the share of the keys that is
    there, ``lookups`` how many there were of all keys, ``seconds`` how long they took.
    """

    name: str
    hashes: NDArray[np.uint32]
    sizes: NDArray[np.int64] | None
    operations: NDArray[np.uint8] | None
    sample: float
    lookups: int
    seconds: float | None

    @property
    def mean_size(self) -> float:
        """Bytes an entry takes, by request; 1 where sizes are unknown."""
        if self.sizes is None:
            return 1.0
        known = self.sizes[self.sizes > 0]
        return max(1.0, float(known.mean())) if len(known) else 1.0

    @property
    def sized(self) -> bool:
        """Whether entries differ in size."""
        return self.sizes is not None and bool((self.sizes > 1).any())


def read_requests(path: Path, limit: int = EVERYTHING) -> Requests:
    """Read the first requests of a recording, or of what `read_trace` reads.

    An ``.npz`` may hold ``sizes`` and ``time`` in seconds beside ``keys``, the second column of a
    ``.csv`` sizes.

    Raises:
        TraceError: no such file, not of this form, or without a single request.
    """
    try:
        if path.suffix == SUFFIX:
            return _recorded(path, limit)
        if path.suffix == ".npz":
            found = _from_numpy(path, limit)
            if found is not None:
                return found
    except OSError as error:
        raise TraceError(f"cannot read the trace {path}: {error.strerror or error}") from error
    trace = read_trace(path, limit)
    sizes = _sizes_of(path, limit) if path.suffix == ".csv" else None
    if sizes is not None and len(sizes) != len(trace.keys):
        sizes = None
    return _made(trace.name, _text_hashes(trace.keys), sizes, None)


def recordings(path: Path) -> list[Path]:
    """The file, or what was recorded in a directory.

    Raises:
        TraceError: nothing was recorded there.
    """
    if not path.is_dir():
        return [path]
    found = sorted(path.glob(f"*{SUFFIX}"))
    if not found:
        raise TraceError(
            f"{path} has no recording (*{SUFFIX}): store.record({str(path)!r}) makes one"
        )
    return found


def _recorded(path: Path, limit: int) -> Requests:
    from hybridcore.analytics import read_recording

    try:
        found = read_recording(path)
    except ValueError as error:
        raise TraceError(str(error)) from error
    if not len(found.hashes):
        raise TraceError(f"the trace {path} has no requests")
    count = min(limit, len(found.hashes))
    share = count / len(found.hashes)
    times = found.times[:count]
    return Requests(
        path.stem,
        found.hashes[:count],
        found.sizes[:count],
        found.operations[:count],
        found.sample,
        round(found.lookups * share),
        float(times[-1] - times[0]) / 1e9,
    )


def _from_numpy(path: Path, limit: int) -> Requests | None:
    """The requests, if keys are numbers; of others, and of what is wrong, `read_trace` tells."""
    import numpy as np

    try:
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if "keys" not in getattr(found, "files", ()):
                return None
            keys: Any = found["keys"][:limit]
            sizes, times = (
                found[name][:limit] if name in found.files else None for name in ("sizes", "time")
            )
    except (ValueError, zipfile.BadZipFile, EOFError):
        return None
    if keys.ndim != 1 or keys.dtype.kind not in "iu" or not len(keys):
        return None
    if sizes is not None and sizes.shape == keys.shape:
        sizes = np.maximum(sizes.astype(np.int64), 1)
    else:
        sizes = None
    if times is not None and (times.shape != keys.shape or times.dtype.kind not in "iuf"):
        times = None
    return _made(path.stem, _number_hashes(keys), sizes, times)


def _made(name: str, hashes: Any, sizes: Any, times: Any) -> Requests:
    seconds = None if times is None else float(times[-1]) - float(times[0])
    return Requests(name, hashes, sizes, None, 1.0, len(hashes), seconds or None)


def _sizes_of(path: Path, limit: int) -> Any:
    """The second column of a CSV file, if it holds sizes."""
    import numpy as np

    with path.open(encoding="utf-8-sig", newline="") as lines:
        rows = [row for row in csv.reader(lines) if row and row[0].strip()]
    if rows and rows[0][0].strip().lower() == "key":
        del rows[0]
    try:
        return np.array([max(1, int(row[1])) for row in rows[:limit]], np.int64)
    except (IndexError, ValueError):
        return None


def _number_hashes(keys: Any) -> Any:
    """The high halves of splitmix64 (G. Steele, D. Lea, C. Flood, 2014)."""
    import numpy as np

    word = keys.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((word ^ (word >> np.uint64(31))) >> np.uint64(32)).astype(np.uint32)


def _text_hashes(keys: list[str]) -> Any:
    import numpy as np
    import xxhash

    return np.fromiter((xxhash.xxh32_intdigest(key.encode()) for key in keys), np.uint32, len(keys))
