"""``hybridcore stats``: what is in a cache's directory, and what its processes counted."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridcore.cli import UsageError, arguments
from hybridcore.cli.output import print_json, print_table

if TYPE_CHECKING:
    import argparse

    from hybridcore.cli import Subparsers
    from hybridcore.exporters.metrics import Family

PUBLISHED = "statistics"
"""The directory within that of a cache in which processes may tell what they count."""


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser(
        "stats",
        help="show what a disk tier holds, and what the processes that use it counted",
        description="Show what the directory of a disk tier holds, and what processes counted that "
        "publish their statistics there: in DIR or DIR/statistics, by an exporter with "
        "directory=. Whoever uses the cache goes on.",
    )
    command.add_argument("directory", type=Path, metavar="DIR")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument(
        "--watch",
        type=arguments.a_duration,
        metavar="TIME",
        help="show it again so often, until interrupted",
    )
    command.set_defaults(run=show)


def show(options: argparse.Namespace) -> int:
    """Carry out the command."""
    if options.watch is not None and options.watch <= 0:
        raise UsageError("--watch is expected to be more than no time")
    if options.watch is None or options.json:
        while True:
            told = look_into(options.directory)
            if options.json:
                print_json(told)
            else:
                for title, rows in tables(told):
                    print_table((title, ""), rows)
            if options.watch is None:
                return 0
            time.sleep(options.watch)
    return watch(options.directory, options.watch)


def watch(directory: Path, interval: float) -> int:
    """Show it over and over in one place of the screen."""
    try:
        from rich.console import Group
        from rich.live import Live
        from rich.table import Table
    except ImportError:
        raise UsageError("--watch needs rich: pip install 'hybridcore[cli]'") from None

    def screen() -> Any:
        shown = []
        for title, rows in tables(look_into(directory)):
            table = Table(title, "", expand=False)
            for row in rows:
                table.add_row(*row)
            shown.append(table)
        return Group(*shown)

    with Live(screen(), auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            live.update(screen(), refresh=True)


def look_into(directory: Path) -> dict[str, Any]:
    """What there is to tell of a directory, as plain data."""
    told: dict[str, Any] = {}
    if (directory / "data.mdb").is_file():
        told["disk"] = disk(directory)
    for place in (directory, directory / PUBLISHED):
        if next(place.glob("*-*.json"), None) or (place / "gone.json").is_file():
            told["processes"] = processes(place)
            break
    if not told:
        raise UsageError(f"there is neither a disk tier nor published statistics in {directory}")
    return told


def disk(directory: Path) -> dict[str, Any]:
    """What a directory holds, whoever wrote it."""
    from hybridcore.disk import Lmdb
    from hybridcore.errors import HybridCoreError

    try:
        # What loses least, and the least of sizes: neither is changed for those who use it.
        tier: Lmdb[Any, Any] = Lmdb(directory, max_bytes="128KiB", durability="power", sweep=None)
        with tier:
            found = tier.stats()
    except HybridCoreError as error:
        raise UsageError(str(error)) from error
    names = ("entries", "live_bytes", "used_bytes", "allocated_bytes", "file_bytes", "readers")
    return {
        **{name: getattr(found, name) for name in names},
        "free_bytes": found.free_bytes,
        "fragmentation": found.fragmentation,
    }


def processes(directory: Path) -> dict[str, Any]:
    """What processes counted, by cache and metric."""
    from hybridcore.exporters.processes import collect

    told: dict[str, Any] = {}
    for family in collect(directory):
        for cache, row in _rows(family):
            told.setdefault(cache, {}).setdefault(family.name, []).append(row)
    return told


def _rows(family: Family) -> Any:
    from hybridcore.exporters.metrics import BOUNDS, Buckets

    for labels, value in family.samples.items():
        row: dict[str, Any] = dict(labels)
        cache = row.pop("cache", "")
        if isinstance(value, Buckets):
            row |= {
                "count": value.counts[-1],
                "sum": value.sum,
                "buckets": dict(zip(map(str, BOUNDS), value.counts, strict=False)),
            }
        else:
            row["value"] = value
        yield cache, row


def tables(told: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The same for people: titles, and rows of two columns."""
    shown = []
    if "disk" in told:
        rows = [(name.replace("_", " "), _number(value)) for name, value in told["disk"].items()]
        shown.append(("disk", rows))
    for cache, metrics in told.get("processes", {}).items():
        rows = []
        for name, found in metrics.items():
            short = name.removeprefix("hybridcore_").removesuffix("_total").replace("_", " ")
            for row in found:
                if row.get("value") == 0 or row.get("count") == 0:
                    continue
                labels = " ".join(
                    text for label, text in row.items() if isinstance(text, str) and label != "le"
                )
                value = _number(row["value"]) if "value" in row else _mean(row)
                rows.append((f"{short} {labels}".strip(), value))
        shown.append((f"cache {cache}", rows))
    return shown


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def _mean(row: dict[str, Any]) -> str:
    return f"{row['count']:,}, mean {row['sum'] / row['count'] * 1e6:,.3g} us"
