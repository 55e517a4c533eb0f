"""`Recorder`: writes the requests of a cache to a file; `read_recording` reads them back.

A recording is a head and blocks. All numbers are little-endian.

| Part | Bytes | Holds |
|---|---|---|
| head | 8 | ``HCTRACE1`` |
| | 4 | length of the JSON that follows |
| | | ``{"sample": 0.1, "started": ns since the epoch, "unit": "entries" or "bytes"}`` |
| block | 4 | ``EVTS`` or ``KEYS`` |
| | 4, 4 | events, length of the compressed payload |
| | 8, 8 | lookups of any key since the block before, events that were lost |
| | 8 | time of the first event, ns since the epoch |
| | 4 | CRC-32 of the payload |

The payload of ``EVTS`` is zlib's compression of four columns: times since the first event in
microseconds (4 bytes each), hashes of the keys (4), sizes of the entries (8), operations (1): 0 a
lookup, 1 a put, 2 a removal or expiry. The size of a lookup that missed is 0. That of ``KEYS`` is a
JSON object, the ``repr`` of keys by their hash. Only keys with a hash below ``sample * 2**32`` are
in it. A block that is cut off or damaged ends the recording.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from hybridcore.analytics.tap import Requests, Tap
from hybridcore.errors import ConfigurationError

if TYPE_CHECKING:
    import os
    from typing import BinaryIO

    from numpy.typing import NDArray
    from typing_extensions import Self

    from hybridcore.memory import Cache

MAGIC = b"HCTRACE1"
SUFFIX = ".hctrace"
BLOCK = struct.Struct("<4sIIQQqI")
BLOCK_EVENTS = 16_384


class Recorder:
    """Records the requests of a cache until it is closed. Use it as a context manager.

    Args:
        cache: what is recorded.
        path: a file that is not there yet, or a directory, in which it gets a name of its own.
        sample: the share of the keys whose requests are recorded; all of a key's are, or none.
        keys: whether keys are recorded as text; without, there is nothing in the file that tells
            them, only hashes of 32 bits.

    Raises:
        ConfigurationError: a share not above 0 and up to 1.
        OSError: the file cannot be made.
    """

    def __init__(
        self,
        cache: Cache[Any, Any],
        path: str | os.PathLike[str],
        *,
        sample: float = 0.1,
        keys: bool = False,
    ) -> None:
        if not 0 < sample <= 1:
            raise ConfigurationError(
                f"sample is expected to be above 0 and at most 1, got {sample!r}"
            )
        self.path = Path(path)
        if self.path.is_dir():
            self.path /= f"requests-{time.time_ns()}{SUFFIX}"
        self.wants_keys = keys
        self.below = round(sample * (1 << 32))
        self.lookups = self.lost = self.events = 0
        self._offset = time.time_ns() - time.monotonic_ns()
        self._waiting: list[Requests] = []
        self._known: set[int] = set()
        self._lock = Lock()
        self._failed: OSError | None = None
        self._file: BinaryIO | None = self.path.open("xb")
        options = cache.options()
        head = {
            "sample": sample,
            "started": time.time_ns(),
            "unit": "bytes" if options[1] is not None or options[5] else "entries",
        }
        text = json.dumps(head).encode()
        self._file.write(MAGIC + struct.pack("<I", len(text)) + text)
        self._tap = Tap.of(cache)
        self._tap.add(self)

    def take(self, requests: Requests) -> None:
        """Keep requests until there are enough for a block. Called by the tap."""
        with self._lock:
            self._waiting.append(requests)
            if sum(len(some.hashes) for some in self._waiting) >= BLOCK_EVENTS:
                self._write()

    def flush(self) -> None:
        """Write what was noted until now.

        Raises:
            OSError: it cannot be written, or something before could not.
        """
        self._tap.drain()
        with self._lock:
            self._write()
            if self._file is not None and self._failed is None:
                self._file.flush()
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """Write what is left, and record no more.

        Raises:
            OSError: not all of it could be written.
        """
        self._tap.remove(self)
        with self._lock:
            if self._file is None:
                return
            self._write()
            self._file.close()
            self._file = None
        if self._failed is not None:
            raise self._failed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _write(self) -> None:
        """Write a block; a disk that fails ends the recording, and `close` tells."""
        waiting, self._waiting = self._waiting, []
        if not waiting or self._file is None or self._failed is not None:
            return
        times, hashes, sizes, operations = (
            np.concatenate([getattr(some, name) for some in waiting])
            for name in ("times", "hashes", "sizes", "operations")
        )
        chosen = hashes < self.below
        times, hashes, sizes, operations = (
            column[chosen] for column in (times, hashes, sizes, operations)
        )
        lookups = sum(some.requests for some in waiting)
        lost = sum(some.lost for some in waiting)
        start = int(times[0]) if len(times) else time.monotonic_ns()
        micros = np.clip((times - start) // 1000, 0, (1 << 32) - 1).astype("<u4")
        columns = (micros, hashes.astype("<u4"), sizes.astype("<i8"), operations)
        payload = zlib.compress(b"".join(column.tobytes() for column in columns), 1)
        try:
            if self.wants_keys:
                self._write_keys(waiting)
            self._block(b"EVTS", len(hashes), payload, lookups, lost, start + self._offset)
        except OSError as error:
            self._failed = error
            return
        self.lookups += lookups
        self.lost += lost
        self.events += len(hashes)

    def _write_keys(self, waiting: list[Requests]) -> None:
        new = {
            str(key_hash): repr(key)
            for some in waiting
            for key_hash, key in some.names.items()
            if key_hash < self.below and key_hash not in self._known
        }
        if new:
            self._known.update(map(int, new))
            self._block(b"KEYS", len(new), zlib.compress(json.dumps(new).encode(), 1), 0, 0, 0)

    def _block(
        self, tag: bytes, events: int, payload: bytes, lookups: int, lost: int, start: int
    ) -> None:
        assert self._file is not None
        head = BLOCK.pack(tag, events, len(payload), lookups, lost, start, zlib.crc32(payload))
        self._file.write(head + payload)


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """What a recording holds.

    ``times`` are nanoseconds since the epoch; operations and sizes as in `Requests`. ``lookups``
    are those of any key, ``lost`` the events that are missing, ``complete`` is False when the file
    was cut off. ``keys`` has the text of keys by their hash, where they were recorded.
    """

    sample: float
    unit: str
    times: NDArray[np.int64]
    hashes: NDArray[np.uint32]
    sizes: NDArray[np.int64]
    operations: NDArray[np.uint8]
    lookups: int
    lost: int
    complete: bool
    keys: dict[int, str] = field(default_factory=dict)


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """Read what a `Recorder` wrote, up to a part that is cut off or damaged.

    Raises:
        ValueError: the file is no recording.
        OSError: it cannot be read.
    """
    data = Path(path).read_bytes()
    if data[: len(MAGIC)] != MAGIC or len(data) < len(MAGIC) + 4:
        raise ValueError(f"{path} is no recording: it is expected to begin with {MAGIC.decode()}")
    (length,) = struct.unpack_from("<I", data, len(MAGIC))
    at = len(MAGIC) + 4 + length
    try:
        head = json.loads(data[len(MAGIC) + 4 : at])
        sample, unit = float(head["sample"]), str(head["unit"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the head of the recording {path} is damaged: {error!r}") from error
    columns: list[list[NDArray[Any]]] = [[], [], [], []]
    keys: dict[int, str] = {}
    lookups = lost = 0
    while at + BLOCK.size <= len(data):
        tag, count, length, some, missing, start, checksum = BLOCK.unpack_from(data, at)
        packed = data[at + BLOCK.size : at + BLOCK.size + length]
        if len(packed) < length or zlib.crc32(packed) != checksum:
            break
        payload = zlib.decompress(packed)
        at += BLOCK.size + length
        if tag == b"KEYS":
            keys.update((int(number), text) for number, text in json.loads(payload).items())
        elif tag == b"EVTS":
            micros, *others = (
                np.frombuffer(payload, kind, count, offset)
                for kind, offset in (
                    ("<u4", 0),
                    ("<u4", 4 * count),
                    ("<i8", 8 * count),
                    ("u1", 16 * count),
                )
            )
            for column, part in zip(
                columns, (start + micros.astype(np.int64) * 1000, *others), strict=True
            ):
                column.append(part)
            lookups += some
            lost += missing
    times, hashes, sizes, operations = (
        np.concatenate([np.empty(0, kind), *parts]).astype(kind)
        for parts, kind in zip(columns, ("i8", "u4", "i8", "u1"), strict=True)
    )
    complete = at == len(data)
    return Recording(sample, unit, times, hashes, sizes, operations, lookups, lost, complete, keys)
