"""Kills producers and workers of a write queue at random points, and counts what became of writes.

Pairs of processes put as fast as they can, one of each also brings out, to a target that now and
then is slow or fails. Every put is noted before it begins and when it has returned, and everything
that the target got; so each figure is counted from files that no process of the queue reads.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

WRONG = ("lost", "phantom", "renamed", "disordered", "dead", "left", "unlike_model")
"""Figures that are to be 0."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench kills``."""
    parser.add_argument("--kills", type=int, default=200, help="of each mode (default 200)")
    parser.add_argument("--seed", type=int, default=7, help="of keys, failures and moments")
    parser.add_argument("--durability", choices=("process", "power"), default="process")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every number here")


def main(options: argparse.Namespace) -> None:
    """Kill, with coalescing and without, and print the figures; exit 1 if one is wrong."""
    from tests.kills import kill_and_judge

    results = {}
    for mode, coalesce in (("the last write of a key counts", True), ("every write counts", False)):
        started = monotonic()
        with TemporaryDirectory() as directory:
            outcome = kill_and_judge(
                Path(directory),
                options.kills,
                seed=options.seed,
                durability=options.durability,
                coalesce=coalesce,
            )
        results[mode] = asdict(outcome)
        print(f"{mode} ({options.durability}, seed {options.seed}, {monotonic() - started:.0f} s)")
        for name, number in results[mode].items():
            print(f"  {name.replace('_', ' '):14}{number:>12,}")
    if options.json is not None:
        options.json.write_text(json.dumps(vars(options) | {"results": results}, default=str))
    if any(outcome[name] for outcome in results.values() for name in WRONG):
        raise SystemExit("something was lost, made up, renamed or out of order")
