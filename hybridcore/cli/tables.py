"""What a replay shows: its plan, a progress bar, and the table of results."""

from __future__ import annotations

import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hybridcore.cli.replay import Column, Report

KINDS = {
    "memory": "hit in memory",
    "disk": "hit on disk",
    "renewed": "renewed by a 304",
    "loaded": "loaded from the origin",
    "shared": "shared another's lookup",
    "failed": "failed or wrong",
}
"""The outcomes of requests, and how they are shown."""

KIND = {
    "http": "HTTP on loopback",
    "github-sim": "a simulated GitHub on loopback, the keys as its files",
    "redis": "a redis-server on loopback, as fast as it is",
    "s3-sim": "a simulated S3 on loopback, the keys as its objects",
}
LIMIT = {
    "http": "{:,} requests/s at most",
    "github-sim": "limits that a replay of minutes does not reach",
    "redis": "no limit",
    "s3-sim": "no limit",
}
"""What ``--origin`` starts, and what it allows."""

PLAIN_WIDTH = 100
"""Columns, where there is no terminal to ask."""


class Screen:
    """The terminal, or whatever takes its place."""

    def __init__(self) -> None:
        self._console = Console(highlight=False)
        if not self._console.is_terminal:
            self._console = Console(highlight=False, width=PLAIN_WIDTH)

    def plan(self, report: Report, directory: Path) -> None:
        """Tell what is about to be done."""
        service = report.service
        best = 1 - report.distinct_keys / report.requests
        memory = f"{report.memory:,} entries" if isinstance(report.memory, int) else report.memory
        self._note(
            "trace",
            f"{report.trace}: {report.requests:,} requests for {report.distinct_keys:,} keys, so "
            f"{best:.1%} hits at best from an empty cache",
        )
        self._note(
            "origin",
            f"{KIND[report.origin]}; {_latency(report)}bodies {_size(service.size)} (median), "
            f"{LIMIT[report.origin].format(service.rate)}",
        )
        self._note(
            "lifetimes",
            f"{1 - service.brief_share:.0%} of the keys stay fresh for an hour, the others for "
            f"{service.brief_age} s; then the origin is asked whether the copy is still right",
        )
        self._note("cache", f"memory {memory}; disk {_size(report.disk)} in {directory}")
        self._note("workers", f"{report.workers} threads; every value read is checked")
        self._console.print()

    def page(self, address: str) -> None:
        """Tell where the live page is."""
        self._note("page", f"{address}  as it goes, and after it")
        self._console.print()

    def stays(self, seconds: float | None) -> None:
        """Tell for how long the page is still there."""
        until = "Ctrl-C ends it" if seconds is None else f"for {_time(seconds)}"
        self._console.print(f"\nThe page stays, and the warm cache with it: {until}.")

    def _note(self, label: str, text: str) -> None:
        lines = textwrap.wrap(text, self._console.width - 11)
        for number, line in enumerate(lines):
            self._console.print(f"{'' if number else label:<10} {line}", markup=False)

    @contextmanager
    def progress(self, title: str, requests: int) -> Iterator[Callable[[int], None]]:
        """Show how far a run is: a bar on a terminal, a line at its end elsewhere."""
        if not self._console.is_terminal:
            self._console.print(f"{title}: {requests:,} requests ...")
            yield lambda done: None
            return
        columns = (
            TextColumn(f"{title:<13}"),
            BarColumn(40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task(title, total=requests)
            yield lambda done: bar.update(task, completed=done)
            bar.update(task, completed=requests)

    def report(self, report: Report) -> None:
        """Show what came of the runs, side by side."""
        self._console.print()
        self._console.print(_results(report.runs))
        self._console.print()
        self._console.print(_restart(report.runs))
        self._console.print()
        for line in _reading(report):
            self._console.print(textwrap.fill(line, self._console.width), markup=False)


def _results(runs: list[Column]) -> Table:
    table = _table("", runs)

    def row(name: str, cell: Callable[[Column], str]) -> None:
        cells = [cell(column) for column in runs]
        if any(text not in ("0", "") for text in cells):
            table.add_row(name, *cells)

    def outcome(kind: str) -> Callable[[Column], str]:
        return lambda column: f"{column.result.outcomes[kind]:,}"

    def latency(tier: str, share: str) -> Callable[[Column], str]:
        def cell(column: Column) -> str:
            found = column.result.latency.get(tier)
            return "" if found is None else _time(getattr(found, share))

        return cell

    row("requests", lambda column: f"{column.result.requests:,}")
    for kind, name in KINDS.items():
        row(f"  {name}", outcome(kind))
    row("hit ratio", lambda column: f"{_hits(column) / column.result.requests:.1%}")
    table.add_row()
    row("origin calls", lambda column: f"{column.served.requests:,}")
    row("  per request", lambda column: f"{column.served.requests / column.result.requests:.3f}")
    row("quota, units", lambda column: f"{column.served.quota:,}")
    row("  per request", lambda column: _share(column.served.quota, column.result.requests))
    row("  refused with 429", lambda column: f"{column.served.limited:,}")
    row("values over the wire", lambda column: _size(column.served.bytes))
    row("  per request", lambda column: _size(column.served.bytes / column.result.requests))
    for tier in ("memory", "disk", "origin", "all"):
        table.add_row()
        row(f"latency, {tier}: p50", latency(tier, "p50"))
        row("  p95", latency(tier, "p95"))
        row("  p99", latency(tier, "p99"))
    table.add_row()
    row("wall time", lambda column: _time(column.result.seconds))
    row("requests/s", lambda column: f"{column.result.requests / column.result.seconds:,.0f}")
    return table


def _restart(runs: list[Column]) -> Table:
    hybrid = [column for column in runs if column.result.contender == "hybrid"]
    count = sum(hybrid[0].result.first.values())
    table = _table(f"the first {count:,} requests", hybrid)
    for kind, name in KINDS.items():
        counts = [column.result.first[kind] for column in hybrid]
        if any(counts):
            table.add_row(f"  {name}", *(f"{count:,}" for count in counts))
    return table


def _reading(report: Report) -> Iterator[str]:
    cold, warm, *others = report.runs
    read = sum(column.result.requests for column in report.runs)
    bad = sum(column.result.outcomes["failed"] for column in report.runs)
    yield f"{read:,} values were read and compared with the origin's: {bad:,} failed or wrong."
    yield (
        "The warm run is a fresh process over the disk tier that the cold run left behind: "
        f"{cold.served.requests:,} calls to the origin became {warm.served.requests:,}, and "
        f"{_size(cold.served.bytes)} of values became {_size(warm.served.bytes)}."
    )
    if bare := next((run for run in others if run.result.contender == "none"), None):
        spent = [column.served.quota for column in (cold, warm)]
        would = [bare.served.quota / bare.result.requests * cold.result.requests] * 2
        if would[0]:
            saved = " and ".join(f"{1 - a / b:.1%}" for a, b in zip(spent, would, strict=True))
            yield (
                f"Of the {would[0]:,.0f} units of quota that the trace takes without a cache, the "
                f"cold and the warm run saved {saved}; 304s are free."
            )
    if others:
        yield (
            f"{others[0].title} holds as much in memory, and what it holds never expires. The run "
            "without a cache is shorter, so compare what is told per request."
        )


def _share(count: int, requests: int) -> str:
    return f"{count / requests:.3f}" if count else ""


def _table(title: str, columns: list[Column]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 0, 0, 3))
    table.add_column(title, min_width=27, no_wrap=True)
    for column in columns:
        table.add_column(column.title.replace(", ", "\n"), justify="right", min_width=9)
    return table


def _hits(column: Column) -> int:
    return column.result.outcomes["memory"] + column.result.outcomes["disk"]


def _time(duration: float) -> str:
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if duration >= unit:
            return f"{duration / unit:.3g} {name}"
    return f"{duration / 1e-9:.0f} ns"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"


def _latency(report: Report) -> str:
    """How long the origin takes, where that is ours to say."""
    if report.origin == "redis":
        return ""
    service = report.service
    return (
        f"latency {_time(service.latency)} (median, log-normal, sigma {service.latency_sigma:g}), "
    )
