"""Metric history on disk: what caches told every ten seconds of a day, and five minutes of a month.

`MetricHistory` reads and writes the directory, an LMDB environment of its own beside that of the
disk tier. A point holds by how much counters grew since the last one, so a restart is no fall and
any stretch of time a sum; a coarse point is the sum of fine ones, with the last of each gauge.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hybridcore.analytics import MissRatioCurve
from hybridcore.disk.environment import MapFullError
from hybridcore.disk.layout import Layout
from hybridcore.disk.sharing import acquire, release
from hybridcore.errors import ClosedError, ConfigurationError
from hybridcore.units import Size, size_in_bytes

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray


LAYOUT = Layout("history", 1, ("data", "meta", "curves"), has_marks=False, disposable=False)

DIRECTORY = "history"
"""The directory within that of a cache where its history is."""


class Level(NamedTuple):
    """Points of so many seconds, kept for so long."""

    step: float
    kept: float


LEVELS = (Level(10.0, 86400.0), Level(300.0, 30 * 86400.0))
MOST_SERIES = 4096
CURVES = 3600.0
"""Seconds of which one miss-ratio curve is kept,"""
CURVE_POINTS = 96
"""with so many sizes."""
WRITER = "writer"
"""The file that is locked by whose turn it is to write."""
_KEY = struct.Struct(">BQ")
_ENTRY = np.dtype([("series", "<u2"), ("value", "<f8")])
_SHARE = 0.7
"""Of the map that records may take; LMDB needs room to exchange pages."""


def is_history(directory: Path) -> bool:
    """Whether there is one in the directory, which is left as it is."""
    return (directory / "data.mdb").is_file() and (directory / WRITER).exists()


class SeriesName(NamedTuple):
    """A metric of a cache with its labels; of a histogram, its buckets, count and sum apart."""

    cache: str
    metric: str
    labels: tuple[tuple[str, str], ...] = ()


class Values(NamedTuple):
    """Times in seconds since the epoch, and what grew in the step that ends then, or was then."""

    times: NDArray[np.float64]
    values: NDArray[np.float64]


class SavedCurve(NamedTuple):
    """A miss-ratio curve as it was, with the size and the traffic that the cache had."""

    at: float
    curve: MissRatioCurve
    size: float
    requests_per_hour: float
    calls_per_miss: float


class MetricHistory:
    """The history in a directory, for any number of processes at once.

    What a writer was killed over is whole: each point is one transaction.

    Args:
        directory: made if missing.
        max_bytes: of the file; when points would take more, the oldest go.

    Raises:
        DiskError: the directory holds something else, or the disk fails.
    """

    def __init__(self, directory: str | os.PathLike[str], *, max_bytes: Size = "32MiB") -> None:
        self.directory = Path(directory).absolute()
        self._max_bytes = size_in_bytes(max_bytes)
        if self._max_bytes < 1 << 20:
            raise ConfigurationError(
                f"max_bytes is expected to be at least 1MiB, got {max_bytes!r}"
            )
        self._environment = acquire(self.directory, self._max_bytes, "power", LAYOUT)
        self._closed = False

    def add(self, at: float, told: Mapping[str, float], counters: Iterable[str] = ()) -> None:
        """Add a point: values by the text of their series, see `series_text`.

        Args:
            counters: those of them that grew by so much; others are states of that time.
        """
        self._check()
        counted = frozenset(counters)

        def work(txn: Any) -> None:
            known = self._known(txn)
            for text in told:
                if text not in known and len(known) < MOST_SERIES:
                    known[text] = [len(known), text in counted]
            txn.put(b"series", json.dumps(known).encode(), db=self._environment.meta)
            new = {known[text][0]: value for text, value in told.items() if text in known}
            grown = {number for number, is_counter in known.values() if is_counter}
            for number, level in enumerate(LEVELS):
                key = _KEY.pack(number, int(at // level.step))
                found = _unpacked(txn.get(key, db=self._environment.data))
                for series, value in new.items():
                    found[series] = value + (found.get(series, 0.0) if series in grown else 0.0)
                txn.put(key, _packed(found, grown), db=self._environment.data)
                self._forget(txn, number, at - level.kept)
            self._keep_within(txn)

        try:
            self._environment.write(work)
        except MapFullError:
            self._environment.write(self._halve)
            self._environment.write(work)

    def series(self) -> list[SeriesName]:
        """All series that there are."""
        self._check()
        with self._environment.reading() as txn:
            return [parsed(text) for text in self._known(txn)]

    def read(
        self, begin: float, end: float, *, step: float = LEVELS[0].step
    ) -> dict[SeriesName, Values]:
        """What each series was from ``begin`` to ``end``, in steps of 10 or 300 seconds.

        A counter that did not grow is 0; a time for which nothing is known is left out.
        """
        self._check()
        number = next((i for i, level in enumerate(LEVELS) if level.step == step), None)
        if number is None:
            steps = ", ".join(f"{level.step:.0f}" for level in LEVELS)
            raise ConfigurationError(f"step is expected to be one of {steps}, got {step!r}")
        times: list[float] = []
        points: list[dict[int, float]] = []
        with self._environment.reading() as txn:
            known = self._known(txn)
            cursor = txn.cursor(db=self._environment.data)
            stop = _KEY.pack(number, int(end // step) + 1)
            there = cursor.set_range(_KEY.pack(number, max(0, int(begin // step))))
            while there and bytes(cursor.key()) < stop:
                times.append((_KEY.unpack(cursor.key())[1] + 1) * step)
                points.append(_unpacked(cursor.value()))
                there = cursor.next()
        at = np.array(times)
        found = {}
        for text, (series, is_counter) in known.items():
            column = np.array([point.get(series, np.nan) for point in points])
            if is_counter:
                column = np.nan_to_num(column)
            there = ~np.isnan(column)
            if there.any():
                found[parsed(text)] = Values(at[there], column[there])
        return found

    def add_curve(self, cache: str, saved: SavedCurve) -> None:
        """Keep a curve, in the place of another of the same hour."""
        self._check()
        key = _curve_key(cache, saved.at)
        packed = _packed_curve(saved)
        oldest = _curve_key(cache, saved.at - LEVELS[-1].kept)

        def work(txn: Any) -> None:
            txn.put(key, packed, db=self._curves)
            cursor = txn.cursor(db=self._curves)
            there = cursor.set_range(_curve_key(cache, 0.0))
            while there and bytes(cursor.key()) < oldest:
                there = cursor.delete()

        self._environment.write(work)

    def curves(self, cache: str, begin: float, end: float) -> list[SavedCurve]:
        """The curves of a cache from a time to a time, the oldest first."""
        self._check()
        found = []
        with self._environment.reading() as txn:
            cursor = txn.cursor(db=self._curves)
            stop = _curve_key(cache, end)
            there = cursor.set_range(_curve_key(cache, begin))
            while there and bytes(cursor.key()) <= stop:
                found.append(_unpacked_curve(cursor.value()))
                there = cursor.next()
        return found

    def caches(self) -> list[str]:
        """The names of the caches that there is something of."""
        return sorted({series.cache for series in self.series()})

    @property
    def _curves(self) -> Any:
        return self._environment.curves  # type: ignore[attr-defined]

    def span(self) -> tuple[float, float] | None:
        """From when to when there are points, fine ones if possible; None when there are none."""
        self._check()
        ends = []
        with self._environment.reading() as txn:
            cursor = txn.cursor(db=self._environment.data)
            for number, level in enumerate(LEVELS):
                if cursor.set_range(_KEY.pack(number, 0)) and cursor.key()[0] == number:
                    ends.append(_KEY.unpack(cursor.key())[1] * level.step)
            if ends:
                fine = cursor.set_range(_KEY.pack(1, 0)) and cursor.prev()
                if fine or cursor.last():
                    number, slot = _KEY.unpack(cursor.key())
                    return min(ends), (slot + 1) * LEVELS[number].step
        return None

    def used_bytes(self) -> int:
        """Bytes of the pages in use."""
        self._check()
        with self._environment.reading() as txn:
            return self._used(txn)

    def close(self) -> None:
        """Let go of the directory."""
        if not self._closed:
            self._closed = True
            release(self._environment)

    def __enter__(self) -> MetricHistory:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _check(self) -> None:
        if self._closed:
            raise ClosedError("the history is closed")

    def _known(self, txn: Any) -> dict[str, Any]:
        return dict(json.loads(bytes(txn.get(b"series", db=self._environment.meta) or b"{}")))

    def _forget(self, txn: Any, number: int, before: float) -> None:
        cursor = txn.cursor(db=self._environment.data)
        oldest = _KEY.pack(number, max(0, int(before // LEVELS[number].step)))
        there = cursor.set_range(_KEY.pack(number, 0))
        while there and bytes(cursor.key()) < oldest:
            there = cursor.delete()

    def _used(self, txn: Any) -> int:
        stat = txn.stat(self._environment.data)
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        return int(pages * stat["psize"])

    def _keep_within(self, txn: Any) -> None:
        while self._used(txn) > _SHARE * self._max_bytes:
            self._halve(txn, 0.95)

    def _halve(self, txn: Any, kept: float = 0.5) -> None:
        """Forget the older part of each level."""
        cursor = txn.cursor(db=self._environment.data)
        for number in range(len(LEVELS)):
            keys = []
            there = cursor.set_range(_KEY.pack(number, 0))
            while there and cursor.key()[0] == number:
                keys.append(bytes(cursor.key()))
                there = cursor.next()
            for key in keys[: max(1, int(len(keys) * (1 - kept)))]:
                txn.delete(key, db=self._environment.data)


def series_text(series: SeriesName) -> str:
    """A series as one text."""
    return json.dumps([series.cache, series.metric, sorted(series.labels)])


def parsed(text: str) -> SeriesName:
    """The series of a text."""
    cache, metric, labels = json.loads(text)
    return SeriesName(cache, metric, tuple((name, value) for name, value in labels))


def _curve_key(cache: str, at: float) -> bytes:
    return cache.encode()[:400] + b"\0" + struct.pack(">Q", int(at // CURVES))


def _packed_curve(saved: SavedCurve) -> bytes:
    curve = saved.curve
    whole = max(curve.bytes if curve.unit == "bytes" else curve.keys, 2.0)
    most = float(np.clip(max(whole, saved.size) * 2, 2.0, curve.sizes[-1]))
    sizes = np.concatenate([[0.0], np.geomspace(1, most, CURVE_POINTS)])
    hit_ratios = np.interp(sizes, curve.sizes, curve.hit_ratios)
    byte_hit_ratios = np.interp(sizes, curve.sizes, curve.byte_hit_ratios)
    hit_ratios[-1], byte_hit_ratios[-1] = curve.hit_ratios[-1], curve.byte_hit_ratios[-1]
    told = {
        **saved._asdict(),
        "curve": {
            **{name: getattr(curve, name) for name in _OF_A_CURVE},
            "sizes": sizes.round(1).tolist(),
            "hit_ratios": hit_ratios.round(6).tolist(),
            "byte_hit_ratios": byte_hit_ratios.round(6).tolist(),
        },
    }
    return zlib.compress(json.dumps(told).encode(), 6)


def _unpacked_curve(packed: Any) -> SavedCurve:
    told: dict[str, Any] = json.loads(zlib.decompress(packed))
    curve: dict[str, Any] = {
        name: np.array(value) if isinstance(value, list) else value
        for name, value in told["curve"].items()
    }
    return SavedCurve(**{**told, "curve": MissRatioCurve(**curve)})


_OF_A_CURVE = ("unit", "policy", "requests", "keys", "bytes", "rate")


def _packed(point: Mapping[int, float], counters: set[int]) -> bytes:
    """A point as bytes; what did not grow is left out."""
    kept = [
        (series, value)
        for series, value in sorted(point.items())
        if value or series not in counters
    ]
    array = np.array(kept, _ENTRY)
    return zlib.compress(array["series"].tobytes() + array["value"].tobytes(), 6)


def _unpacked(packed: Any) -> dict[int, float]:
    if packed is None:
        return {}
    raw = zlib.decompress(packed)
    count = len(raw) // _ENTRY.itemsize
    series = np.frombuffer(raw, "<u2", count)
    values = np.frombuffer(raw, "<f8", count, 2 * count)
    return dict(zip(series.tolist(), values.tolist(), strict=True))
