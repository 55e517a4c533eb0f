"""Replays traces through the disk tier: what it keeps within the same bytes, by several weights.

Every row is a real directory of the same ``max_bytes``, the last one a simulated LRU that holds as
many bytes of records as the first row did on average. A miss stores the key with its size, and
with its cost where the trace has one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.traces import read_trace
from hybridcore import Lmdb, Weights

if TYPE_CHECKING:
    import argparse

    from bench.traces import Trace

UNIT = 1000
"""Bytes of a value where the trace knows no sizes."""
LARGEST = 64 * 1024
"""Bytes; larger values are cut off, so that a run ends."""
OVERHEAD = 1.4
"""Bytes of LMDB's pages for each byte of a record, about."""

ROWS: dict[str, dict[str, Any]] = {
    "learned": {},
    "fixed": {"weights": Weights(size=0.5)},
    "recency": {"weights": Weights.lru()},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench disk_hits``."""
    parser.add_argument("traces", nargs="+", type=Path, help="trace files, or directories of them")
    parser.add_argument("--shares", default="0.02,0.1", help="of all bytes, by comma")
    parser.add_argument("--requests", type=int, default=200_000, help="of each trace")
    parser.add_argument("--json", type=Path, help="save the results")


def main(options: argparse.Namespace) -> None:
    """Replay each trace at each share through each row, and print the hit ratios."""
    shares = [float(share) for share in options.shares.split(",")]
    results = []
    print(f"{'trace':24}{'share':>7}" + "".join(f"{row:>20}" for row in [*ROWS, "exact LRU"]))
    for file in files_of(options.traces):
        trace = read_trace(file, options.requests)
        for share in shares:
            found = compare(trace, share)
            results.append({"trace": trace.name, "share": share, **found})
            cells = "".join(
                f"{hits['objects']:>9.2%} {hits['bytes']:>7.2%} b" for hits in found.values()
            )
            print(f"{trace.name:24}{share:>7.1%}{cells}", flush=True)
    for row in ("fixed", "recency", "exact LRU"):
        for unit in ("objects", "bytes", "cost"):
            gains = [(r["learned"][unit] - r[row][unit]) * 100 for r in results]
            print(
                f"learned against {row} in {unit}: {sum(gains) / len(gains):+.2f} points on "
                f"average, {min(gains):+.2f} at worst"
            )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


def files_of(paths: list[Path]) -> list[Path]:
    """The files, and those that lie in the directories."""
    found = [sorted(path.glob("*.npz")) if path.is_dir() else [path] for path in paths]
    return [file for files in found for file in files]


def compare(trace: Trace, share: float) -> dict[str, dict[str, float]]:
    """Hit ratios in objects, bytes and cost by row."""
    keys = trace.keys.tolist()
    sizes = [UNIT] * len(keys) if trace.sizes is None else trace.sizes.clip(1, LARGEST).tolist()
    costs = [1.0] * len(keys) if trace.costs is None else trace.costs.tolist()
    whole = sum(dict(zip(keys, sizes, strict=True)).values())
    max_bytes = max(int(whole * share * OVERHEAD), 512 * 1024)
    found, held = {}, 0.0
    for row, weights in ROWS.items():
        found[row], live = replay(keys, sizes, costs, max_bytes, weights)
        held = held or live
    found["exact LRU"] = lru(keys, sizes, costs, held)
    return found


def replay(
    keys: list[int], sizes: list[int], costs: list[float], max_bytes: int, options: dict[str, Any]
) -> tuple[dict[str, float], float]:
    """What one directory answers, and how many bytes of records it holds once it is full."""
    value = memoryview(bytes(max(sizes)))
    hit, held = [], []
    directory = tempfile.mkdtemp()
    try:
        with Lmdb[Any, Any](
            directory, max_bytes=max_bytes, sweep=None, durability="none", **options
        ) as disk:
            for i, key in enumerate(keys):
                there = disk.get(key) is not None
                hit.append(there)
                if not there:
                    disk.put(key, bytes(value[: sizes[i]]), cost=costs[i])
                if i % 1000 == 0:
                    stats = disk.stats()
                    if stats.evictions:
                        held.append(stats.live_bytes)
            held.append(disk.stats().live_bytes)
    finally:
        shutil.rmtree(directory)
    return shares_of(hit, sizes, costs), sum(held) / len(held)


def lru(keys: list[int], sizes: list[int], costs: list[float], capacity: float) -> dict[str, float]:
    """What exact LRU keeps in so many bytes of records."""
    header = 80  # about, with the key
    order: OrderedDict[int, int] = OrderedDict()
    used, hit = 0, []
    for i, key in enumerate(keys):
        hit.append(key in order)
        if key in order:
            order.move_to_end(key)
            continue
        order[key] = sizes[i] + header
        used += order[key]
        while used > capacity and len(order) > 1:
            used -= order.popitem(last=False)[1]
    return shares_of(hit, sizes, costs)


def shares_of(hit: list[bool], sizes: list[int], costs: list[float]) -> dict[str, float]:
    """The share of the requests, of their bytes and of their cost that was a hit."""
    return {
        "objects": sum(hit) / len(hit),
        "bytes": sum(size for size, there in zip(sizes, hit, strict=True) if there) / sum(sizes),
        "cost": sum(cost for cost, there in zip(costs, hit, strict=True) if there) / sum(costs),
    }
