"""``hybridcore warm``: fill a directory from an HTTP origin or from another directory."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridcore.cli import UsageError, arguments
from hybridcore.cli.output import print_json, print_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from hybridcore.cli import Subparsers
    from hybridcore.warming import Report, Warmer

_MEMORY = 1_000
"""Entries; what is warmed is meant for the directory."""


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser(
        "warm",
        help="fill a directory before anybody asks",
        description="Load keys from an HTTP origin into the directory of a disk tier, or copy the "
        "fresh entries of another directory, hottest first. What is fresh already is left alone. "
        "Processes that use the directory see the entries at once.",
    )
    add = command.add_argument
    add("directory", type=Path, metavar="DIR", help="of the disk tier; made if missing")
    add("--keys", type=Path, metavar="FILE", help="a key a line, loaded from --origin")
    add("--origin", metavar="URL", help="where keys are loaded from: the key is put behind it")
    add("--peer", type=Path, metavar="DIR", help="copy from this directory")
    add("--ttl", type=arguments.a_duration, default="1h", metavar="TIME", help="where none is told")
    add("--size", type=arguments.a_size, default="1GiB", metavar="SIZE", help="of the directories")
    add("--count", type=arguments.a_count, default=100_000, metavar="N", help="keys at most")
    add("--concurrency", type=arguments.a_count, default=4, metavar="N", help="calls at a time")
    add("--rate", type=arguments.a_count, metavar="N", help="keys a second at most")
    add("--within", type=arguments.a_duration, metavar="TIME", help="stop after so long")
    add("--explain", action="store_true", help="only tell what would be loaded and what is fresh")
    add("--json", action="store_true", help="print JSON, with the ledger")
    command.set_defaults(run=warm)


def warm(options: argparse.Namespace) -> int:
    """Carry out the command; returns 0, or 1 when keys failed."""
    if (options.keys is None) == (options.peer is None):
        raise UsageError("give either --keys with --origin, or --peer")
    if options.keys is not None and options.origin is None and not options.explain:
        raise UsageError("--keys are loaded from an --origin: give its URL")
    from hybridcore import EntryOptions, HybridCache, Lmdb, Memory
    from hybridcore.errors import HybridCoreError
    from hybridcore.warming import Budget, Startup, Warmer

    try:
        origin: Any = None
        if options.origin is not None:
            from hybridcore import HttpOrigin

            origin = HttpOrigin(options.origin)
        disk: Lmdb[Any, Any] = Lmdb(options.directory, max_bytes=options.size)
        defaults = EntryOptions(ttl=options.ttl)
        with HybridCache(Memory(_MEMORY), disk, origin, defaults=defaults) as store:
            if options.explain:
                return _explain(options, disk)
            startup = None
            if options.peer is not None:
                if not (options.peer / "data.mdb").is_file():
                    raise UsageError(f"there is no disk tier in {options.peer}")
                startup = Startup(
                    peer=options.peer,
                    from_disk=False,
                    count=options.count,
                    within=options.within or 1e9,
                    required=True,
                    peer_bytes=options.size,
                )
            with Warmer(
                store,
                startup=startup,
                budget=Budget(overhead=None),
                max_concurrent_warms=options.concurrency,
            ) as warmer:
                return _carried_out(options, warmer, startup)
    except HybridCoreError as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror or error}") from error


def _carried_out(options: argparse.Namespace, warmer: Warmer, startup: Any) -> int:
    if startup is not None:
        warmer.wait_until_ready()
        report = startup.report.get("peer")
        if report is None:
            raise UsageError(f"nothing could be copied from {options.peer}")
    else:
        report = warmer.warm(
            _keys(options),
            rate=options.rate,
            within=options.within,
            progress=None if options.json else _progress(),
        )
    _print(options, report, warmer)
    return 1 if report.failed else 0


def _keys(options: argparse.Namespace) -> list[str]:
    from itertools import islice

    from hybridcore.warming.manual import keys_in

    return list(islice(keys_in(options.keys), options.count))


def _explain(options: argparse.Namespace, disk: Any) -> int:
    """Say of each key what would be done with it."""

    def decisions() -> Iterator[tuple[Any, str]]:
        if options.peer is not None:
            from hybridcore import Lmdb
            from hybridcore.warming.shelf import hottest_of

            with Lmdb[Any, Any](options.peer, max_bytes=options.size, sweep=None) as peer:
                for key in hottest_of(peer, options.count):
                    yield key, "fresh" if key in disk else "copy"
            return
        for key in _keys(options):
            yield key, "fresh" if key in disk else "load"

    found = list(decisions())
    if options.json:
        print_json([{"key": key, "decision": decision} for key, decision in found])
    else:
        print_table(("key", "decision"), [(str(key), decision) for key, decision in found])
    return 0


def _print(options: argparse.Namespace, report: Report, warmer: Warmer) -> None:
    if options.json:
        content = asdict(report) | {"failed": {str(k): repr(e) for k, e in report.failed.items()}}
        print_json({"report": content, "ledger": asdict(warmer.stats())})
        return
    names = ("keys", "loaded", "not_modified", "promoted", "fresh", "missing", "skipped")
    rows = [(name.replace("_", " "), f"{getattr(report, name):,}") for name in names]
    rows += [("failed", f"{len(report.failed):,}"), ("seconds", f"{report.seconds:.1f}")]
    print_table(("warmed", ""), rows)


def _progress() -> Any:
    """A bar on the terminal, where there is one and rich."""
    import sys

    if not sys.stderr.isatty():
        return None
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        return None
    bar = Progress(console=Console(stderr=True), transient=True)
    task = bar.add_task("warming", total=None)
    bar.start()

    def told(done: int, total: int | None) -> None:
        bar.update(task, completed=done, total=total)
        if total is not None and done >= total:
            bar.stop()

    return told
