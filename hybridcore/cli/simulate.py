"""``hybridcore simulate``: a trace, request by request, through given policies and sizes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hybridcore.cli import arguments, curves
from hybridcore.cli.requests import EVERYTHING, read_requests, recordings

if TYPE_CHECKING:
    import argparse

    from hybridcore.cli import Subparsers
    from hybridcore.cli.requests import Requests

LOOKUP, PUT, REMOVED = range(3)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a cache did with a trace; ``size`` is that of a cache of all keys."""

    trace: str
    policy: str
    unit: str
    size: int
    simulated_size: int
    requests: int
    hits: int
    hit_ratio: float
    byte_hit_ratio: float
    evicted: int


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser(
        "simulate",
        help="replay a trace through other policies and sizes",
        description="Replay a trace through a cache of each policy and size, and count what it "
        "hits. What was recorded of a share of the keys goes through caches as much smaller.",
    )
    add = command.add_argument
    add("trace", type=Path, metavar="TRACE|DIR", help="as of hybridcore mrc")
    add(
        "--policy",
        type=curves.some_policies,
        default=["learned", "lru"],
        metavar="NAME,NAME",
        help=", ".join(curves.POLICIES),
    )
    add(
        "--size",
        type=curves.some_sizes,
        default=["1%", "5%", "10%", "25%"],
        metavar="SIZE,SIZE",
        help="such as 1000,64MiB,10%%",
    )
    add("--entries", action="store_true", help="count entries, whatever their sizes")
    add("--requests", type=arguments.a_count, default=EVERYTHING, metavar="N", help="the first N")
    add("--json", action="store_true", help="print JSON instead of a table")
    command.set_defaults(run=simulate)


def simulate(options: argparse.Namespace) -> int:
    """Carry out the command."""
    found = [
        _replay(requests, policy, text, options.entries)
        for path in recordings(options.trace)
        for requests in [read_requests(path, options.requests)]
        for text in options.size
        for policy in options.policy
    ]
    if options.json:
        print(json.dumps([asdict(outcome) for outcome in found], indent=2))
        return 0
    width = max(len(outcome.trace) for outcome in found)
    print(f"{'trace':<{width}} {'size':>12} {'policy':>8} {'hits':>8} {'bytes hit':>10}")
    for outcome in found:
        size = curves.describe(outcome.size, outcome.unit)
        print(
            f"{outcome.trace:<{width}} {size:>12} {outcome.policy:>8} {outcome.hit_ratio:>8.2%} "
            f"{outcome.byte_hit_ratio:>10.2%}"
        )
    return 0


def _replay(requests: Requests, policy: str, text: str, entries: bool) -> Outcome:
    from hybridcore.memory import Cache

    keys = requests.hashes.tolist()
    bytewise = curves.in_bytes(requests, entries)
    known = _sizes(requests, keys)
    weights = known if bytewise else dict.fromkeys(known, 1)
    size = curves.size_of(text, sum(weights.values()) / requests.sample)
    room = max(1, round(size * requests.sample))
    cache = Cache[int, bool](room, **curves.policy_options(policy))
    operations = bytes(len(keys)) if requests.operations is None else requests.operations.tobytes()
    hits = asked_bytes = hit_bytes = 0
    for key, operation in zip(keys, operations, strict=True):
        if operation == REMOVED:
            cache.discard(key)
            continue
        entry = known.get(key, 0)
        if operation == LOOKUP:
            asked_bytes += entry
            if cache.get(key):
                hits += 1
                hit_bytes += entry
                continue
        elif key in cache:
            continue
        if entry and weights[key] <= room:
            cache.put(key, True, size=weights[key])
    lookups = operations.count(LOOKUP)
    return Outcome(
        requests.name,
        policy,
        "bytes" if bytewise else "entries",
        round(size),
        room,
        lookups,
        hits,
        hits / lookups if lookups else 0.0,
        hit_bytes / asked_bytes if asked_bytes else 0.0,
        cache.stats().evicted,
    )


def _sizes(requests: Requests, keys: list[int]) -> dict[int, int]:
    """What each key takes; those that were never stored take nothing, and never will."""
    if requests.sizes is None:
        return dict.fromkeys(keys, 1)
    return {key: size for key, size in zip(keys, requests.sizes.tolist(), strict=True) if size > 0}
