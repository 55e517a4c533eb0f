"""`Top`: the screen of ``hybridcore top``."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rich.text import Text
from textual.app import App
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import DataTable, Footer, Sparkline, Static

from hybridcore.cli.words import NONE, duration, number, share, size, sized
from hybridcore.errors import HybridCoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from textual.app import ComposeResult

    from hybridcore.monitoring.view import CacheView, CurveView, QueueView, TierView
    from hybridcore.monitoring.watcher import Watcher

_LOOK = 0.1
"""Seconds between looks at whether there is something new."""
_TABLES = {
    "caches": (
        "Caches",
        ("cache", "state", "lookups/s", "hit ratio", "misses, p99", "waiting", "dead", "alerts"),
    ),
    "alerts": ("Alerts firing", ("severity", "rule", "since", "summary")),
    "tiers": (
        "Tiers",
        ("tier", "hit ratio", "lookups/s", "p50", "p95", "p99", "errors/s", "entries", "used"),
    ),
    "queue": ("Writes waiting", ("level", "writes", "bytes", "oldest waits")),
    "letters": (
        "Dead letters",
        ("id", "key", "level", "reason", "error", "attempts", "died"),
    ),
    "warming": (
        "Warming",
        ("strategy", "on", "warmed", "hits", "wasted", "failed", "calls", "spent", "saved"),
    ),
    "invalidations": ("Invalidated lately", ("number", "time", "scope", "what", "cause")),
}
_SPARKS = {"memory": 1, "disk": 2, "origin": 3, "failed": 4}
"""The fields of a point."""
_BAR, _BAR_WIDTH, _BARS = "█", 30, 10

Row = tuple[str, "Sequence[str]"]


class Top(App[None]):
    """Tables of caches, and of the one that is chosen; every text is shown as it is."""

    TITLE = "hybridcore"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[Any]] = [
        ("q", "quit", "quit"),
        ("r", "replay", "replay letter"),
        ("a", "replay_all", "replay all letters"),
    ]
    CSS = """
    .title { text-style: bold; margin-top: 1; }
    DataTable { height: auto; max-height: 12; }
    Horizontal { height: 1; }
    Horizontal > Static { width: 24; }
    Sparkline { width: 1fr; }
    """

    def __init__(self, watcher: Watcher) -> None:
        super().__init__()
        self._watcher = watcher
        self._shown: tuple[CacheView, ...] = ()
        self._chosen: str | None = None

    def compose(self) -> ComposeResult:
        """The widgets; those of what there is not are hidden."""
        # Kept: while the screen begins and ends they are not all to be found on it.
        self._titles = {
            name: Static(title, classes="title") for name, (title, _) in _TABLES.items()
        }
        self._tables = {name: _table(name, columns) for name, (_, columns) in _TABLES.items()}
        self._about = Static("connecting …", id="about", classes="title", markup=False)
        self._curve_title = Static("Hit ratio by the size of memory", classes="title")
        self._curve = Static("", id="curve", markup=False)
        self._rates = {name: Static(name, markup=False) for name in _SPARKS}
        self._sparks = {name: Sparkline([], id=f"{name}-spark") for name in _SPARKS}
        with VerticalScroll():
            yield from self._titled("caches")
            yield self._about
            yield from self._titled("alerts")
            yield from self._titled("tiers")
            yield Static("Lookups a second, by who answered", classes="title")
            for name in _SPARKS:
                with Horizontal():
                    yield self._rates[name]
                    yield self._sparks[name]
            yield self._curve_title
            yield self._curve
            for name in ("queue", "letters", "warming", "invalidations"):
                yield from self._titled(name)
        yield Footer()

    def on_mount(self) -> None:
        """Show what there is as soon as it is there."""
        self._watcher.ask()
        self.set_interval(_LOOK, self._look)
        self._tables["caches"].focus()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Choose the cache that the cursor is on."""
        if event.data_table.id == "caches" and event.row_key is not None:
            self._choose(event.row_key.value)

    def action_replay(self) -> None:
        """Replay the letter that the cursor is on."""
        table = self._tables["letters"]
        if not table.display or not table.row_count:
            self.notify("there is no dead letter to replay", severity="warning")
            return
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value
        self._replay(int(key or 0))

    def action_replay_all(self) -> None:
        """Replay all letters of the cache."""
        self._replay(None)

    def _titled(self, name: str) -> ComposeResult:
        yield self._titles[name]
        yield self._tables[name]

    def _choose(self, name: str | None) -> None:
        if name != self._chosen:
            self._chosen = name
            self._show()

    def _look(self) -> None:
        views = self._watcher.views()
        if views is not self._shown:
            self._shown = views
            self._show()

    def _replay(self, letter: int | None) -> None:
        cache = self._cache()
        if cache is None:
            return

        def work() -> None:
            try:
                count = self._watcher.replay(cache.name, letter)
                told = f"{count:,} queued again" if count else "none queued again: superseded, gone"
                self._watcher.look()
            except HybridCoreError as error:
                told = f"not replayed: {error}"
            self.call_from_thread(self.notify, told, markup=False)

        self.run_worker(work, thread=True)

    def _cache(self) -> CacheView | None:
        named = (view for view in self._shown if view.name == self._chosen)
        return next(named, self._shown[0] if self._shown else None)

    # -- what is shown ----------------------------------------------------------------------

    def _show(self) -> None:
        self._fill("caches", map(_summary, self._shown))
        cache = self._cache()
        if cache is None:
            return
        since = "" if cache.window is None else f"of the last {duration(round(cache.window))}"
        up = "" if cache.uptime is None else f"up {duration(round(cache.uptime))}"
        parts = (cache.name, cache.state, *cache.reasons, cache.source, up, since)
        self._about.update(" · ".join(filter(None, parts)))
        self._fill("alerts", [(one.rule, _alert(one)) for one in cache.alerts])
        self._fill("tiers", map(_tier, cache.tiers))
        self._spark(cache.name)
        self._draw(cache.curve)
        self._queue(cache.queue)
        self._fill(
            "warming",
            [
                (
                    one.name,
                    (
                        one.name,
                        "yes" if one.is_on else "no",
                        *map(number, (one.warmed, one.hits, one.wasted, one.failed, one.calls)),
                        duration(one.spent),
                        duration(one.saved),
                    ),
                )
                for one in cache.warming
            ],
        )
        self._fill(
            "invalidations",
            [
                (str(one.number), (str(one.number), _clock(one.at), one.scope, one.what, one.cause))
                for one in cache.invalidations
            ],
        )

    def _spark(self, name: str) -> None:
        points = self._watcher.points(name)
        for label, field in _SPARKS.items():
            rates = [point[field] for point in points]
            last = number(rates[-1]) if rates else NONE
            self._rates[label].update(f"{label} {last}")
            self._sparks[label].data = rates

    def _draw(self, curve: CurveView | None) -> None:
        self._curve.display = self._curve_title.display = curve is not None
        if curve is None:
            return
        marks = {curve.current: "now", curve.recommended: "recommended"}
        step = max(1, len(curve.sizes) // _BARS)
        lines = [
            f"{sized(at, curve.unit):>16} {share(ratio):>7} "
            f"{_BAR * round(_BAR_WIDTH * ratio):{_BAR_WIDTH}} {marks.get(at, '')}"
            for place, (at, ratio) in enumerate(zip(curve.sizes, curve.hit_ratios, strict=True))
            if place % step == 0 or at in marks
        ]
        self._curve.update("\n".join(lines))

    def _queue(self, queue: QueueView | None) -> None:
        levels = () if queue is None else queue.levels
        self._fill(
            "queue",
            [
                (
                    one.name,
                    (one.name, number(one.items), size(one.bytes), duration(one.oldest)),
                )
                for one in levels
            ],
        )
        letters = () if queue is None else queue.letters
        rows = [
            (
                str(one.id),
                (
                    str(one.id),
                    one.key,
                    one.level,
                    one.reason if one.replayable else f"{one.reason}, not to be replayed",
                    one.error,
                    number(one.attempts),
                    f"{duration(round(max(0.0, time.time() - one.died)))} ago",
                ),
            )
            for one in letters
        ]
        self._fill("letters", rows)

    def _fill(self, name: str, rows: Iterable[Row]) -> None:
        """Have a table show these rows, and its cursor stay on the row that it is on."""
        table = self._tables[name]
        wanted = dict(rows)
        self._titles[name].display = table.display = bool(wanted) or name == "caches"
        present = [key.value for key in table.rows]
        columns = list(table.columns)
        if present == list(wanted):
            for key, cells in wanted.items():
                for column, cell in zip(columns, cells, strict=True):
                    if str(table.get_cell(key, column)) != cell:
                        table.update_cell(key, column, Text(cell), update_width=True)
            return
        place = table.cursor_row
        at = present[place] if place < len(present) else None
        with self.prevent(DataTable.RowHighlighted):
            table.clear()
            for key, cells in wanted.items():
                table.add_row(*map(Text, cells), key=key)
            if at in wanted:
                table.move_cursor(row=list(wanted).index(at))


def _table(name: str, columns: Sequence[str]) -> DataTable[Text]:
    kind: Literal["row", "none"] = "row" if name in ("caches", "letters") else "none"
    table: DataTable[Text] = DataTable(id=name, cursor_type=kind)
    for column in columns:
        table.add_column(column, key=column)
    return table


def _summary(view: CacheView) -> Row:
    queue = view.queue
    return view.name, (
        view.name,
        view.state,
        number(view.rate),
        share(view.hit_ratio),
        duration(view.p99),
        NONE if queue is None else number(sum(level.items for level in queue.levels)),
        NONE if queue is None else number(queue.dead),
        number(len(view.alerts)),
    )


def _tier(one: TierView) -> Row:
    used = NONE if one.size is None or not one.bound else share(one.size / one.bound)
    latencies = one.latencies or (None, None, None)
    return one.name, (
        one.name,
        share(one.hit_ratio),
        number(one.rate),
        *map(duration, latencies),
        number(one.errors),
        number(one.entries),
        used,
    )


def _alert(one: Any) -> tuple[str, ...]:
    return one.severity, one.rule, _clock(one.since), one.summary


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).strftime("%H:%M:%S")
