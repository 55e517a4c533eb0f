"""``hybridcore recommend``: which size to give a cache that is asked what a trace asks."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hybridcore.cli import arguments, curves
from hybridcore.cli.requests import EVERYTHING, read_requests, recordings

if TYPE_CHECKING:
    import argparse

    from hybridcore.analytics import Option, Recommendation
    from hybridcore.cli import Subparsers


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser(
        "recommend",
        help="recommend a size from a trace",
        description="Recommend the smallest size that reaches a hit ratio, and tell what other "
        "sizes would be worth.",
    )
    add = command.add_argument
    add("trace", type=Path, metavar="TRACE|DIR", help="as of hybridcore mrc")
    add(
        "--hit-ratio",
        type=a_ratio,
        metavar="RATIO",
        help="such as 0.9 or 90%%; by default 95 %% of what any size could hit",
    )
    add("--size", type=curves.some_sizes, metavar="SIZE", help="that the cache has now")
    add("--policy", type=curves.a_policy, default="learned", help=", ".join(curves.POLICIES))
    add("--cost", type=curves.a_number, default=1.0, metavar="COST", help="of a miss")
    add("--entries", action="store_true", help="count entries, whatever their sizes")
    add("--requests", type=arguments.a_count, default=EVERYTHING, metavar="N", help="the first N")
    add("--json", action="store_true", help="print JSON")
    command.set_defaults(run=recommend_size)


def recommend_size(options: argparse.Namespace) -> int:
    """Carry out the command."""
    from hybridcore.analytics.recommend import NEARLY_ALL, recommend

    found = {}
    for path in recordings(options.trace):
        requests = read_requests(path, options.requests)
        curve = curves.estimate(
            requests,
            options.policy,
            entries=options.entries,
            hit_ratio=options.hit_ratio,
            share=NEARLY_ALL if options.hit_ratio is None else None,
        )
        whole = curve.bytes if curve.unit == "bytes" else curve.keys
        seconds = requests.seconds
        found[requests.name] = recommend(
            curve,
            current=None if options.size is None else curves.size_of(options.size[0], whole),
            hit_ratio=options.hit_ratio,
            requests_per_hour=3600 * requests.lookups / seconds if seconds else 0.0,
            cost=options.cost,
        )
    if options.json:
        tables = [{"trace": name, **asdict(result)} for name, result in found.items()]
        print(json.dumps(tables[0] if len(tables) == 1 else tables, indent=2))
        return 0
    for name, result in found.items():
        _print(name, result)
    return 0


def a_ratio(text: str) -> float:
    """A share between 0 and 1, or in percent."""
    number = curves.a_number(text.removesuffix("%"))
    if text.endswith("%"):
        number /= 100
    if not 0 < number < 1:
        raise ArgumentTypeError(f"expected a share between 0 and 1, or percent, got {text!r}")
    return number


def _print(name: str, result: Recommendation) -> None:
    size = result.recommended
    if size is None:
        print(
            f"{name}: no size hits {result.target:.1%} of these {result.requests:,} requests; "
            f"a cache that is never full hits {result.best_hit_ratio:.1%}"
        )
    else:
        print(
            f"{name}: {curves.describe(size.size, result.unit)}"
            f"{' entries' if result.unit == 'entries' else ''} hit {size.hit_ratio:.1%} with the "
            f"policy {result.policy}; {result.best_hit_ratio:.1%} is what any size could hit"
        )
    per_hour = result.requests_per_hour > 0
    more = "next MiB" if result.unit == "bytes" else "next 1000"
    head = f"{'size':>12} {'hits':>8} {more:>10}"
    print(head + (f" {'misses/h':>12} {'cost saved/h':>14}" if per_hour else ""))
    known = [result.current, result.recommended, *result.options]
    for option in sorted({option for option in known if option is not None}, key=_size):
        line = (
            f"{curves.describe(option.size, result.unit):>12} {option.hit_ratio:>8.2%} "
            f"{option.marginal:>+10.3%}"
        )
        if per_hour:
            line += f" {option.origin_calls_per_hour:>12,.0f} {option.cost_saved_per_hour:>14,.6g}"
        marks = [
            mark
            for mark, what in (("now", result.current), ("recommended", result.recommended))
            if option == what
        ]
        print(line + (f"  {', '.join(marks)}" if marks else ""))


def _size(option: Option) -> int:
    return option.size
