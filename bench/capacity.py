"""Predicts the second half of traces from the first: hit ratios of four sizes, and the disk.

The first half is looked at as a running cache is: a sample of 8192 keys, small caches that stand
for the four sizes, in eight stretches. From these the hit ratio that each size will have in the
second half is predicted, and what a disk that keeps everything will hold at the end. A replay tells
what comes. Nobody can know of a phase that has not begun: `still` says whether a trace goes on as
it was, that is, whether the replay itself has the same hit ratio in both halves, within 10 %. So
often a forecast would be right that knew the first half exactly and said that it goes on.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.curve import generated, hashed
from bench.processes import run_apart
from bench.report import save
from bench.traces import SHIPPED, Trace, read_trace

if TYPE_CHECKING:
    import argparse

SHARES = (0.02, 0.05, 0.1, 0.25)
"""Sizes, of the keys in the first half."""
SMALLEST = 32
WINDOWS = 8
"""Stretches of the first half, of which each has a curve,"""
POINTS = 32
"""and points at which the disk is looked at."""
NEAR = 0.1
NOTHING = 0.005
"""A hit ratio below this is as good as none."""


@dataclass(frozen=True)
class Row:
    """One trace and policy: predicted and replayed hit ratios, and entries on disk."""

    trace: str
    policy: str
    sizes: list[int]
    predicted: list[float]
    replayed: list[float]
    first_half: list[float]
    off: float
    disk: float
    disk_lower: float
    disk_upper: float
    disk_was: float
    disk_became: float

    @property
    def errors(self) -> list[float]:
        """By what share predictions are off."""
        return [_off(*pair) for pair in zip(self.predicted, self.replayed, strict=True)]

    @property
    def still(self) -> list[bool]:
        """Which sizes hit as much in both halves."""
        pairs = zip(self.first_half, self.replayed, strict=True)
        return [abs(_off(*pair)) <= NEAR for pair in pairs]

    @property
    def within(self) -> list[bool]:
        """Which hit ratios came within the interval that was told."""
        pairs = zip(self.predicted, self.replayed, strict=True)
        return [abs(predicted - came) <= self.off for predicted, came in pairs]

    @property
    def disk_error(self) -> float:
        """By what share the size of the disk is off."""
        return self.disk / self.disk_became - 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench capacity``."""
    add = parser.add_argument
    add("traces", nargs="*", type=Path, metavar="TRACE", help="files (default: the shipped trace)")
    add("--generated", action="store_true", help="also traces that are drawn")
    add("--limit", type=int, metavar="N", help="only the first N requests of a trace")
    add("--jobs", type=int, default=1, help="traces at a time")
    add("--json", type=Path, metavar="FILE", help="save every number here")


def main(options: argparse.Namespace) -> None:
    """Predict, replay, print and save."""
    traces = [read_trace(path, options.limit) for path in options.traces or [SHIPPED]]
    if options.generated:
        traces += generated()
    rows: list[Row] = []
    print(f"{'trace':<18} {'policy':<8} {'hit ratios off by':<32} {'disk off by':>11}")
    for trace, found, error in run_apart(measure, traces, options.jobs):
        if error:
            raise SystemExit(f"capacity: {trace.name}: {error}")
        for row in found:
            rows.append(row)
            offs = " ".join(
                f"{off:+.1%}{'' if still else '*'}"
                for off, still in zip(row.errors, row.still, strict=True)
            )
            print(f"{row.trace[:18]:<18} {row.policy:<8} {offs:<32} {row.disk_error:>+11.1%}")
    print("(* where the replay itself differs by more than 10 % from half to half)")
    _summarize(rows)
    if options.json:
        options.traces = [path.name for path in options.traces]
        save(
            options.json, options, ["hybridcore", "numpy"], {"rows": [asdict(row) for row in rows]}
        )


def _summarize(rows: list[Row]) -> None:
    for policy in ("lru", "learned"):
        some = [row for row in rows if row.policy == policy]
        near = np.abs([error for row in some for error in row.errors]) <= NEAR
        points = np.abs(
            [a - b for row in some for a, b in zip(row.predicted, row.replayed, strict=True)]
        )
        still = np.array([one for row in some for one in row.still])
        print(
            f"hit ratios, {policy}: {near.sum()} of {len(near)} predictions within 10 % of what "
            f"came, {(points <= NEAR).sum()} within 10 points; where the trace goes on as it was, "
            f"{near[still].sum()} of {still.sum()} within 10 %. A replay of the first half tells "
            f"{still.sum()} of {len(still)}"
        )
    names = sorted({row.trace for row in rows})
    for start, what in ((0, "1st, 3rd, ..."), (1, "2nd, 4th, ...")):
        some = [row for row in rows if row.trace in names[start::2]]
        near = np.abs([error for row in some for error in row.errors]) <= NEAR
        within = [one for row in some for one in row.within]
        print(
            f"of the {what} trace by name: {near.sum()} of {len(near)} hit ratios within 10 %, "
            f"{sum(within)} within the interval that was told"
        )
    disks = [row for row in rows if row.policy == "lru"]
    near = [abs(row.disk_error) <= NEAR for row in disks]
    within = [row.disk_lower <= row.disk_became <= row.disk_upper for row in disks]
    print(
        f"disk: {sum(near)} of {len(near)} within 10 %; {sum(within)} within the interval that "
        f"was told"
    )


def measure(trace: Trace) -> list[Row]:
    """Both policies on one trace."""
    from hybridcore import Weights
    from hybridcore.analytics import Estimator
    from hybridcore.monitoring.capacity import expected_curve, expected_growth

    half = len(trace.keys) // 2
    hashes = hashed(trace.keys, 0)
    known = len(np.unique(trace.keys[:half]))
    sizes = [max(SMALLEST, int(share * known)) for share in SHARES]
    first = np.unique(trace.keys, return_index=True)[1]
    marks = np.linspace(0, half, POINTS + 1)
    seen = np.searchsorted(np.sort(first), marks).astype(float).tolist()
    disk = expected_growth(seen)
    rows = []
    for policy, weights in (("lru", Weights.lru()), ("learned", None)):
        estimator = Estimator(sizes=() if policy == "lru" else sizes)
        curves = []
        for part in np.array_split(hashes[:half], WINDOWS):
            estimator.feed(part)
            curves.append(estimator.curve() if policy == "lru" else estimator.policy_curve(policy))
            estimator.fade(0.0)
        curve, expected = expected_curve(curves)
        halves = [replay(trace.keys, half, size, weights) for size in sizes]
        rows.append(
            Row(
                trace.name,
                policy,
                sizes,
                [curve.hit_ratio(size) for size in sizes],
                [after for _, after in halves],
                [before for before, _ in halves],
                expected.upper - expected.value,
                disk.value,
                disk.lower,
                disk.upper,
                seen[-1],
                float(len(first)),
            )
        )
    return rows


def replay(keys: Any, half: int, size: int, weights: Any) -> tuple[float, float]:
    """The hit ratios of both halves."""
    from hybridcore import Cache

    cache = Cache[int, bool](size, weights=weights)
    get, found = cache.get, []
    for part in (keys[:half], keys[half:]):
        before = cache.stats()
        for key in part.tolist():
            if get(key) is None:
                cache[key] = True
        found.append((cache.stats() - before).hit_ratio)
    return found[0], found[1]


def _off(predicted: float, came: float) -> float:
    if came < NOTHING:
        return 0.0 if predicted < NOTHING else 1.0
    return predicted / came - 1
