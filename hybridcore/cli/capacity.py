"""``hybridcore capacity``: what is to come, and what another size, ttl or more traffic would do."""

from __future__ import annotations

from argparse import ArgumentTypeError
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hybridcore.cli import UsageError, arguments, curves
from hybridcore.cli.output import print_json, print_table
from hybridcore.cli.report import open_history, the_cache
from hybridcore.cli.requests import SUFFIX, read_requests, recordings
from hybridcore.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

    from hybridcore.analytics import MissRatioCurve
    from hybridcore.cli import Subparsers
    from hybridcore.monitoring.capacity import Expected
    from hybridcore.monitoring.reports import Growth

SIZES = "0.5x,1x,2x,4x"


class _Known(NamedTuple):
    """What there is to reckon with."""

    curve: MissRatioCurve
    current: float
    requests_per_hour: float
    calls_per_miss: float
    expected: Expected | None
    growth: list[Growth]


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser(
        "capacity",
        help="tell what a cache will need, and what another size, ttl or more traffic would do",
        description="From the history of a cache that runs with analytics=True, or from a trace, "
        "tell what is to come, and what the cache would hit with another size, a shorter ttl, "
        "more requests or more keys.",
    )
    add = command.add_argument
    add("source", type=Path, metavar="DIR|TRACE", help="with a history; or as of hybridcore mrc")
    add("--cache", metavar="NAME", help="where the history has several")
    add(
        "--since", type=arguments.a_duration, default=7 * 86400.0, metavar="TIME", help="default 7d"
    )
    add(
        "--size",
        type=_some_sizes,
        default=_some_sizes(SIZES),
        metavar="SIZE,SIZE",
        help=f"such as 2x,64MiB,1000 (default {SIZES})",
    )
    add("--current", type=arguments.a_size, metavar="SIZE", help="that the cache has; of a trace")
    add("--ttl", type=arguments.a_duration, metavar="TIME", help="from the load of an entry on")
    add(
        "--traffic",
        type=curves.a_number,
        default=1.0,
        metavar="TIMES",
        help="as many requests as now, such as 2",
    )
    add("--keys", type=curves.a_number, default=1.0, metavar="TIMES", help="for as many keys")
    add("--policy", type=curves.a_policy, default="learned", help="of a trace")
    add("--json", action="store_true", help="print JSON instead of tables")
    command.set_defaults(run=capacity)


def capacity(options: argparse.Namespace) -> int:
    """Carry out the command."""
    from hybridcore.monitoring.capacity import what_if

    known = _from_trace(options) if _is_trace(options.source) else _from_history(options)
    try:
        outcomes = [
            what_if(
                known.curve,
                requests_per_hour=known.requests_per_hour,
                size=_size(text, known.current),
                current=known.current,
                ttl=ttl,
                traffic=traffic,
                keys=keys,
                calls_per_miss=known.calls_per_miss,
            )
            for text, (ttl, traffic, keys) in product(options.size, _cases(options))
        ]
    except ConfigurationError as error:
        raise UsageError(str(error)) from error
    if options.json:
        print_json(
            {
                "unit": known.curve.unit,
                "policy": known.curve.policy,
                "current": known.current,
                "requests_per_hour": known.requests_per_hour,
                "expected_hit_ratio_off_by": None
                if known.expected is None
                else known.expected.upper - known.expected.value,
                "growth": [asdict(one) for one in known.growth],
                "outcomes": [asdict(outcome) for outcome in outcomes],
            }
        )
        return 0
    _print(known, outcomes)
    return 0


def _cases(options: argparse.Namespace) -> list[tuple[float | None, float, float]]:
    """As it is, and as was asked."""
    now = (None, 1.0, 1.0)
    asked = (options.ttl, options.traffic, options.keys)
    return [now] if asked == now else [now, asked]


def _is_trace(source: Path) -> bool:
    return source.is_file() or next(source.glob(f"*{SUFFIX}"), None) is not None


def _from_history(options: argparse.Namespace) -> _Known:
    from hybridcore.monitoring.capacity import expected_curve
    from hybridcore.monitoring.reports import growth
    from hybridcore.monitoring.trends import Course

    with open_history(options.source) as history:
        cache = the_cache(history, options.cache)
        span = history.span()
        assert span is not None  # there is a cache in it
        begin = span[1] - options.since
        saved = history.curves(cache, begin, span[1])
        if not saved:
            raise UsageError(
                f"the history has no curve of {cache!r}: make the cache with analytics=True"
            )
        last = saved[-1]
        same = [one.curve for one in saved if one.curve.unit == last.curve.unit]
        curve, expected = expected_curve(same)
        grown = growth(Course(history, cache, begin, span[1]), saved)
    return _Known(curve, last.size, last.requests_per_hour, last.calls_per_miss, expected, grown)


def _from_trace(options: argparse.Namespace) -> _Known:
    if options.current is None:
        raise UsageError("of a trace the size of the cache is not known: give --current SIZE")
    paths = recordings(options.source)
    if len(paths) > 1:
        raise UsageError(f"expected one recording, {options.source} has {len(paths)}")
    requests = read_requests(paths[0])
    if not requests.seconds:
        raise UsageError(f"{paths[0]} does not tell when it was recorded, or is of one moment")
    curve = curves.estimate(requests, options.policy)
    per_hour = 3600 * requests.lookups / requests.seconds
    return _Known(curve, float(options.current), per_hour, 1.0, None, [])


def _some_sizes(text: str) -> list[tuple[bool, str]]:
    """Parse ``2x,64MiB``: whether each is a factor, and the rest of it."""
    found = []
    for part in (part.strip() for part in text.split(",")):
        is_factor = part.endswith("x")
        if not is_factor:
            curves.some_sizes(part)
        elif not curves.a_number(part[:-1]) > 0:
            raise ArgumentTypeError(f"expected a size above 0, such as 2x, got {part!r}")
        found.append((is_factor, part.removesuffix("x")))
    return found


def _size(wanted: tuple[bool, str], current: float) -> float:
    is_factor, text = wanted
    return float(text) * current if is_factor else curves.size_of(text, current)


def _print(known: _Known, outcomes: list[Any]) -> None:
    unit = known.curve.unit
    rows = [
        (
            curves.describe(one.size, unit) + (" (now)" if one.size == known.current else ""),
            "as it is" if one.ttl is None else f"{one.ttl:,.0f} s",
            f"{one.traffic:g}x",
            f"{one.keys:g}x",
            f"{one.hit_ratio:.2%}",
            f"{one.origin_calls_per_hour:,.0f}",
            f"{one.saved_per_hour:+,.0f}",
        )
        for one in outcomes
    ]
    print_table(("size", "ttl", "requests", "keys", "hits", "origin calls/h", "saved/h"), rows)
    if known.expected is not None:
        off = known.expected.upper - known.expected.value
        print(f"Hit ratios may be off by {off:.1%}, by how far they were when foretold so before.")
    if known.growth:
        from hybridcore.monitoring.reports import growth_rows

        print()
        print_table(("of", "now", "expected", "between", "full"), growth_rows(known.growth))
