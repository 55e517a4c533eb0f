"""Compares `hybridcore.compat.cachetools` with cachetools, class by class, in interleaved rounds.

Both hold the same 1000 entries and do the same work; ratios are to cachetools.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from bench.operations import memory_operations
from bench.peers import MAPPING, Peer
from bench.ratios import compare
from bench.report import OURS, installed, print_title, save

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def _forever(key: Any, value: Any, now: float) -> float:
    return math.inf


CLASSES: dict[str, tuple[Any, ...]] = {
    "Cache": (),
    "FIFOCache": (),
    "LRUCache": (),
    "LFUCache": (),
    "RRCache": (),
    "TTLCache": (3600,),
    "TLRUCache": (_forever,),
}
OPERATIONS = (
    "get int",
    "[k] int",
    "get str",
    "[k] str",
    "get tuple",
    "get int, miss",
    "set int, existing",
    "set int, evicting",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench compat``."""
    parser.add_argument("--rounds", type=int, default=15, help="at least 9 for a fact (default 15)")
    parser.add_argument("--seed", type=int, default=1, help="of keys and orders (default 1)")
    parser.add_argument("--steps", type=int, default=10_000, help="operations in a round")
    parser.add_argument("--only", default="", help="only classes whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every number here")


def main(options: argparse.Namespace) -> None:
    """Measure, print the tables, and save everything if asked to."""
    rng = Random(options.seed)
    operations = [o for o in memory_operations(options.steps) if o.name in OPERATIONS]
    results = {}
    for name, arguments in CLASSES.items():
        peers = [
            Peer("cachetools", "cachetools", _maker("cachetools", name, arguments), MAPPING),
            Peer(OURS, OURS, _maker("hybridcore.compat.cachetools", name, arguments), MAPPING),
        ]
        if options.only in name and all(map(installed, peers)):
            print_title(name, peers, options)
            results[name] = compare(operations, peers, options.rounds, rng)
    if options.json:
        save(options.json, options, ["cachetools", OURS], {"results": results})


def _maker(module: str, name: str, arguments: tuple[Any, ...]) -> Callable[[int], Any]:
    """Make ``module.name(maxsize, *arguments)``, importing the module then."""
    return lambda size: getattr(importlib.import_module(module), name)(size, *arguments)
