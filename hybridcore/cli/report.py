"""``hybridcore report``: how a cache fared, from its history."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from hybridcore.cli import UsageError, arguments
from hybridcore.cli.output import print_json
from hybridcore.errors import ConfigurationError, HybridCoreError

if TYPE_CHECKING:
    import argparse

    from hybridcore.cli import Subparsers
    from hybridcore.monitoring.history import MetricHistory
    from hybridcore.monitoring.slo import Slo

FORMATS = {".md": "markdown", ".html": "html", ".htm": "html", ".json": "json"}


def add_to(commands: Subparsers) -> None:
    """Add the command's parser."""
    command = commands.add_parser(
        "report",
        help="report how a cache fared, from its history",
        description="Report trends, what was out of the ordinary, capacity and recommendations, "
        "from the history that a Historian writes into DIR or DIR/history.",
    )
    add = command.add_argument
    add("directory", type=Path, metavar="DIR")
    add("--cache", metavar="NAME", help="where the history has several")
    add(
        "--since",
        type=arguments.a_duration,
        default=86400.0,
        metavar="TIME",
        help="how far it goes back (default 1d)",
    )
    add(
        "--slo",
        action="append",
        default=[],
        metavar="NAME:OBJECTIVE[:THRESHOLD]",
        help="such as availability:99.9%% or latency:99%%:50ms; may be repeated",
    )
    add("--output", type=Path, metavar="FILE", help="write it there: .md, .html or .json")
    add("--json", action="store_true", help="print JSON instead of Markdown")
    command.set_defaults(run=report)


def report(options: argparse.Namespace) -> int:
    """Carry out the command."""
    from hybridcore.monitoring.reports import make_report

    form = "json" if options.json else "markdown"
    if options.output is not None:
        form = FORMATS.get(options.output.suffix, "")
        if not form:
            raise UsageError(f"cannot write {options.output}: expected .md, .html or .json")
    slos = [an_slo(text) for text in options.slo]
    with open_history(options.directory) as history:
        cache = the_cache(history, options.cache)
        last = history.span()
        end = last[1] if last is not None else time.time()
        try:
            made = make_report(history, cache, end - options.since, end, slos=slos)
            text = "" if form == "json" else str(getattr(made, form)())
        except ConfigurationError as error:
            raise UsageError(str(error)) from error
    if form == "json":
        import msgspec

        text = msgspec.json.format(msgspec.json.encode(made.as_dict())).decode() + "\n"
    if options.output is None:
        if form == "json":
            print_json(made.as_dict())
        else:
            print(text)
        return 0
    try:
        options.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {options.output}: {error.strerror}") from error
    return 0


def open_history(directory: Path) -> MetricHistory:
    """The history in a directory, or in that of a cache."""
    from hybridcore.monitoring.history import DIRECTORY, MetricHistory, is_history

    for place in (directory, directory / DIRECTORY):
        if is_history(place):
            try:
                return MetricHistory(place)
            except HybridCoreError as error:
                raise UsageError(str(error)) from error
    raise UsageError(
        f"there is no history in {directory}: hybridcore.monitoring.historian.Historian writes one"
    )


def the_cache(history: MetricHistory, name: str | None) -> str:
    """The cache of that name, or the only one."""
    known = history.caches()
    if name is None and len(known) == 1:
        return known[0]
    if name is None or name not in known:
        told = ", ".join(known) or "no cache"
        raise UsageError(f"expected --cache with one of those in the history: {told}")
    return name


def an_slo(text: str) -> Slo:
    """Parse ``latency:99%:50ms``."""
    from hybridcore.monitoring.slo import Slo

    name, *rest = text.split(":")
    if not rest or len(rest) > 2:
        raise UsageError(f"expected --slo NAME:OBJECTIVE or NAME:OBJECTIVE:THRESHOLD, got {text!r}")
    try:
        wanted = float(rest[0].removesuffix("%"))
        if rest[0].endswith("%"):
            wanted = round(wanted / 100, 12)
        return Slo(name, objective=wanted, threshold=rest[1] if len(rest) == 2 else None)
    except ConfigurationError as error:
        raise UsageError(f"--slo {text}: {error}") from error
    except ValueError:
        raise UsageError(f"--slo {text}: {rest[0]!r} is no number") from None
