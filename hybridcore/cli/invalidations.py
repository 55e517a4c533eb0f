"""``hybridcore invalidations``: what was invalidated in the directory of a disk tier."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridcore.cli import UsageError
from hybridcore.cli.arguments import a_count, a_duration
from hybridcore.cli.output import print_table

if TYPE_CHECKING:
    import argparse

    from hybridcore.cli import Subparsers
    from hybridcore.invalidation import Invalidation

_PAUSE = 0.1
"""Seconds between looks at whether there is more."""


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser(
        "invalidations",
        help="show what was invalidated, when and why",
        description="Show the newest entries of the log of invalidations in the directory of a "
        "disk tier. Whoever uses it goes on.",
    )
    command.add_argument("directory", type=Path, metavar="DIR", help="of the disk tier")
    command.add_argument(
        "--last", type=a_count, default=20, metavar="N", help="how many entries (20)"
    )
    command.add_argument(
        "--trim",
        type=a_count,
        metavar="N",
        help="first remove all but the newest N entries, at least 100",
    )
    command.add_argument(
        "--max-age",
        type=a_duration,
        metavar="AGE",
        help='first remove entries that are older, such as "7d"',
    )
    command.add_argument("--follow", action="store_true", help="go on with those that are added")
    command.add_argument("--json", action="store_true", help="print JSON, a line for each")
    command.set_defaults(run=show)


def show(options: argparse.Namespace) -> int:
    """Carry out the command."""
    from hybridcore import HybridCache, Lmdb
    from hybridcore.errors import HybridCoreError

    if not (options.directory / "data.mdb").is_file():
        raise UsageError(f"there is no disk tier in {options.directory}")
    try:
        store: HybridCache[Any, Any] = HybridCache(None, Lmdb(options.directory, sweep=None))
        with store:
            if options.trim is not None or options.max_age is not None:
                _trim(store, options)
            found = store.invalidation_log(last=options.last)
            if options.json:
                _print_lines(found)
            else:
                print_table(_TITLES, map(_row, found))
            number = found[-1].number if found else 0
            while options.follow:
                time.sleep(_PAUSE)
                for entry in store.invalidation_log(number):
                    if options.json:
                        _print_lines([entry])
                    else:
                        print("  ".join(_row(entry)), flush=True)
                    number = entry.number
    except HybridCoreError as error:
        raise UsageError(str(error)) from error
    return 0


def _trim(store: Any, options: argparse.Namespace) -> None:
    from hybridcore.invalidation.retention import Retention

    entries = sys.maxsize if options.trim is None else options.trim
    removed = store._engine.coherence.trim(Retention(entries, options.max_age))
    print(f"{removed} entries removed", file=sys.stderr)


_TITLES = ("number", "time", "scope", "what", "cause", "node")


def _row(entry: Invalidation) -> tuple[str, ...]:
    what = [repr(key) for key in entry.keys] + [f"tag {tag!r}" for tag in entry.tags]
    return (
        str(entry.number),
        datetime.fromtimestamp(entry.at).isoformat(sep=" ", timespec="milliseconds"),
        entry.scope if entry.hard else f"{entry.scope}, soft",
        ", ".join(what),
        entry.cause,
        f"{entry.node:x}",
    )


def _print_lines(entries: list[Invalidation]) -> None:
    import msgspec

    for entry in entries:
        content: dict[str, Any] = {name: getattr(entry, name) for name in entry.__slots__}
        content["node"] = f"{entry.node:x}"  # beyond what JSON's numbers hold elsewhere
        sys.stdout.write(msgspec.json.encode(content, enc_hook=repr).decode() + "\n")
    sys.stdout.flush()
