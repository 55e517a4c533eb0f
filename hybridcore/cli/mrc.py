"""``hybridcore mrc``: the miss-ratio curve of a trace, as a picture and as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridcore.cli import arguments, curves
from hybridcore.cli.requests import EVERYTHING, read_requests, recordings

if TYPE_CHECKING:
    import argparse

    from hybridcore.analytics import MissRatioCurve
    from hybridcore.cli import Subparsers

BAR, BAR_WIDTH = "█", 40  # of what always misses


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser(
        "mrc",
        help="estimate the hit ratio of every size from a trace",
        description="Estimate from one pass over a trace what a cache of any size would miss. "
        "Sizes are in bytes where the trace has sizes, else in entries.",
    )
    add = command.add_argument
    add(
        "trace",
        type=Path,
        metavar="TRACE|DIR",
        help="a recording (.hctrace), .npz with an array 'keys' and maybe 'sizes', .csv with keys "
        "and maybe sizes, text with a key a line; or a directory of recordings",
    )
    add("--policy", type=curves.a_policy, default="learned", help=", ".join(curves.POLICIES))
    add("--sizes", type=curves.some_sizes, metavar="SIZE,SIZE", help="such as 1000,64MiB,10%%")
    add("--entries", action="store_true", help="count entries, whatever their sizes")
    add("--requests", type=arguments.a_count, default=EVERYTHING, metavar="N", help="the first N")
    add("--plot", type=Path, metavar="FILE", help="draw the curve here (.png, .svg, .pdf)")
    add("--json", action="store_true", help="print JSON instead of a table")
    command.set_defaults(run=mrc)


def mrc(options: argparse.Namespace) -> int:
    """Carry out the command."""
    if options.plot is not None:
        curves.check_plot(options.plot)
    found: list[tuple[str, MissRatioCurve]] = []
    for path in recordings(options.trace):
        requests = read_requests(path, options.requests)
        found.append(
            (requests.name, curves.estimate(requests, options.policy, entries=options.entries))
        )
    if options.plot is not None:
        curves.draw(options.plot, found)
    tables = [_table(name, curve, options.sizes) for name, curve in found]
    if options.json:
        print(json.dumps(tables[0] if len(tables) == 1 else tables, indent=2))
        return 0
    for table in tables:
        _print(table)
    return 0


def _table(name: str, curve: MissRatioCurve, wanted: list[str] | None) -> dict[str, Any]:
    whole = curve.bytes if curve.unit == "bytes" else curve.keys
    if wanted is None:
        sizes = curves.spread(curve, max(whole, 2.0), curves.POINTS)
    else:
        sizes = sorted(curves.size_of(text, whole) for text in wanted)
    return {
        "trace": name,
        "policy": curve.policy,
        "unit": curve.unit,
        "requests": round(curve.requests),
        "keys": round(curve.keys),
        "bytes": round(curve.bytes) if curve.unit == "bytes" else None,
        "sampling_rate": curve.rate,
        "points": [
            {
                "size": round(size),
                "share": size / whole if whole else 0.0,
                "hit_ratio": curve.hit_ratio(size),
                "miss_ratio": 1 - curve.hit_ratio(size),
                "byte_hit_ratio": curve.byte_hit_ratio(size),
            }
            for size in sizes
        ],
    }


def _print(table: dict[str, Any]) -> None:
    unit = table["unit"]
    keys = f"{table['keys']:,} keys"
    if unit == "bytes":
        keys += f" of {curves.describe(table['bytes'], unit)}"
    print(
        f"{table['trace']}: {table['requests']:,} requests for about {keys}; "
        f"{table['policy']}, from {table['sampling_rate']:.1%} of the keys"
    )
    bytewise = unit == "bytes"
    head = f"{'size':>12} {'share':>8} {'hits':>8} {'misses':>8}"
    print(head + (f" {'bytes hit':>10}" if bytewise else ""))
    for point in table["points"]:
        line = (
            f"{curves.describe(point['size'], unit):>12} {point['share']:>8.2%} "
            f"{point['hit_ratio']:>8.2%} {point['miss_ratio']:>8.2%}"
        )
        line += f" {point['byte_hit_ratio']:>10.2%}" if bytewise else ""
        print(f"{line}  {BAR * round(BAR_WIDTH * point['miss_ratio'])}")
