"""What a replay shows: its plan, a progress bar, and the table of results."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from hybridcore.cli.replay import Column, Report

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
        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            "trace",
            f"{report.trace}: {report.requests:,} requests for {report.distinct_keys:,} keys; "
            f"an endless cold cache would hit {best:.1%}",
        )
        grid.add_row(
            "origin",
            f"HTTP on loopback: latency {service.latency * 1e3:g} ms (median, log-normal, sigma "
            f"{service.latency_sigma:g}), bodies of {service.size:,} bytes (median), "
            f"{service.rate:,} requests/s at most",
        )
        grid.add_row(
            "lifetimes",
            f"{1 - service.brief_share:.0%} of the keys stay fresh for an hour, the others for "
            f"{service.brief_age} s; then the origin is asked with their ETag",
        )
        memory = f"{report.memory:,} entries" if isinstance(report.memory, int) else report.memory
        grid.add_row("cache", f"memory {memory}, disk {_size(report.disk)} in {directory}")
        grid.add_row("workers", f"{report.workers} threads; every value read is checked")
        self._console.print(grid)
        self._console.print()

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
        self._console.print(_restart(report.runs))
        for line in _reading(report.runs):
            self._console.print(line, soft_wrap=False)


def _results(runs: list[Column]) -> Table:
    table = _table("", *(column.title for column in runs))

    def row(name: str, cell: Callable[[Column], str], *, section: bool = False) -> None:
        cells = [cell(column) for column in runs]
        if any(text not in ("0", "-") for text in cells):
            table.add_row(name, *cells, end_section=section)

    def outcome(kind: str) -> Callable[[Column], str]:
        return lambda column: f"{column.result.outcomes[kind]:,}"

    def per_request(number: Callable[[Column], float], form: str) -> Callable[[Column], str]:
        return lambda column: format(number(column) / column.result.requests, form)

    row("requests", lambda column: f"{column.result.requests:,}")
    row("  hit in memory", outcome("memory"))
    row("  hit on disk", outcome("disk"))
    row("  renewed by the origin (304)", outcome("renewed"))
    row("  loaded from the origin", outcome("loaded"))
    row("  shared another's load", outcome("shared"))
    row("  failed or wrong", outcome("failed"), section=True)
    row("hit ratio", per_request(_hits, ".1%"))
    row("origin calls", lambda column: f"{column.served.requests:,}")
    row("  per request", per_request(lambda column: column.served.requests, ".3f"))
    row("  refused with 429", lambda column: f"{column.served.limited:,}")
    row("values over the wire", lambda column: _size(column.served.bytes))
    row(
        "  per request",
        per_request(lambda column: column.served.bytes, ",.0f"),
        section=True,
    )
    for tier in ("memory", "disk", "origin", "all"):
        row(f"p50 / p95 / p99 {tier}", lambda column, tier=tier: _latency(column, tier))  # type: ignore[misc]
    table.add_section()
    row("wall time", lambda column: f"{column.result.seconds:.1f} s")
    row("requests/s", lambda column: f"{column.result.requests / column.result.seconds:,.0f}")
    return table


def _restart(runs: list[Column]) -> Table:
    hybrid = [column for column in runs if column.result.contender == "hybrid"]
    count = sum(hybrid[0].result.first.values())
    table = _table(f"the first {count:,} requests", *(column.title for column in hybrid))
    for kind, name in (
        ("memory", "hit in memory"),
        ("disk", "hit on disk"),
        ("renewed", "renewed by the origin (304)"),
        ("loaded", "loaded from the origin"),
    ):
        table.add_row(f"  {name}", *(f"{column.result.first[kind]:,}" for column in hybrid))
    return table


def _reading(runs: list[Column]) -> Iterator[str]:
    read = sum(column.result.requests for column in runs)
    bad = sum(column.result.outcomes["failed"] for column in runs)
    yield f"{read:,} values read and compared with what the origin holds; {bad:,} failed or wrong."
    yield "The warm run is a fresh process over the disk tier that the cold run left behind."
    if len(runs) > 2:
        yield (
            f"{runs[2].title} holds as many entries in memory and never lets them expire; "
            f"the run without a cache is shorter: compare what is told per request."
        )


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    return table


def _hits(column: Column) -> int:
    return column.result.outcomes["memory"] + column.result.outcomes["disk"]


def _latency(column: Column, tier: str) -> str:
    latency = column.result.latency.get(tier)
    if latency is None:
        return "-"
    return " / ".join(_time(share) for share in (latency.p50, latency.p95, latency.p99))


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
