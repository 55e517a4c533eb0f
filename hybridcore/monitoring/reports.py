"""Reports of a cache over a stretch of time: as Markdown, as HTML with pictures, and scheduled.

The HTML is one file: pictures are data URIs, nothing is fetched, and every value is escaped. It
needs the extra ``plot``.
"""

from __future__ import annotations

import html
import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ConfigurationError
from hybridcore.exporters.metrics import BOUNDS
from hybridcore.logs import RateLimitedLog, raised_by
from hybridcore.monitoring.capacity import Expected, expected_growth, reached_in, thinned
from hybridcore.monitoring.pictures import curve_picture, trend_picture
from hybridcore.monitoring.recommendations import Advice, advise, in_words
from hybridcore.monitoring.trends import Course, trends
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from hybridcore.monitoring.history import MetricHistory, SavedCurve, Values
    from hybridcore.monitoring.slo import Slo
    from hybridcore.monitoring.trends import Trend

log = RateLimitedLog(logging.getLogger("hybridcore"))

POINTS = 33
"""Of a course that growth is worked out of."""
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Growth:
    """What something will take as far ahead as the report goes back, and when that is too much.

    ``full_in`` are seconds, None where there is no bound, or it is not reached.
    """

    of: str
    unit: str
    now: float
    expected: Expected
    bound: float | None
    full_in: float | None


@dataclass(frozen=True, slots=True)
class Kept:
    """Whether an objective was kept: the share of lookups that were good, and of the budget that
    is used up."""

    name: str
    objective: float
    good: float
    lookups: float
    spent: float

    @property
    def is_kept(self) -> bool:
        """Whether it was."""
        return self.good >= self.objective


@dataclass(frozen=True, slots=True)
class CacheReport:
    """How a cache fared from ``begin`` to ``end``, seconds since the epoch."""

    cache: str
    begin: float
    end: float
    trends: tuple[Trend, ...]
    growth: tuple[Growth, ...]
    advice: tuple[Advice, ...]
    objectives: tuple[Kept, ...]
    curve: SavedCurve | None

    def as_dict(self) -> dict[str, Any]:
        """As plain data, without the courses."""
        from dataclasses import asdict

        return {
            "cache": self.cache,
            "begin": self.begin,
            "end": self.end,
            "trends": [
                {
                    "measure": trend.measure,
                    "unit": trend.unit,
                    "first": trend.first,
                    "last": trend.last,
                    "mean": trend.mean,
                    "change": trend.change,
                    "anomalies": [asdict(mark) for mark in trend.anomalies],
                }
                for trend in self.trends
            ],
            "growth": [asdict(one) for one in self.growth],
            "advice": [asdict(one) for one in self.advice],
            "objectives": [asdict(one) | {"is_kept": one.is_kept} for one in self.objectives],
        }

    def markdown(self) -> str:
        """The report as Markdown."""
        lines = [f"# {_marked(self._title())}", "", f"{_when(self.begin)} to {_when(self.end)}", ""]
        for title, head, rows in self._tables():
            lines += [f"## {title}", ""]
            if not rows:
                lines += ["Nothing.", ""]
                continue
            lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
            lines += [f"| {' | '.join(map(_marked, row))} |" for row in rows]
            lines.append("")
        lines += ["## Recommendations", ""]
        for advice in self.advice:
            lines.append(f"- **{_marked(advice.action)}.** {_marked(advice.evidence)}")
        lines.append("" if self.advice else "None: nothing stands out.\n")
        return "\n".join(lines)

    def html(self) -> str:
        """The report as one page of HTML.

        Raises:
            ConfigurationError: matplotlib is not installed.
        """
        parts = [f"<h1>{_escaped(self._title())}</h1>"]
        parts.append(f"<p>{_when(self.begin)} to {_when(self.end)}</p><h2>Recommendations</h2><ul>")
        parts += [
            f"<li><strong>{_escaped(one.action)}.</strong> {_escaped(one.evidence)}</li>"
            for one in self.advice
        ] or ["<li>None: nothing stands out.</li>"]
        parts.append("</ul>")
        for title, head, rows in self._tables():
            parts.append(f"<h2>{title}</h2>")
            if not rows:
                parts.append("<p>Nothing.</p>")
                continue
            cells = "".join(f"<th scope=col>{name}</th>" for name in head)
            body = "".join(
                f"<tr>{''.join(f'<td>{_escaped(cell)}</td>' for cell in row)}</tr>" for row in rows
            )
            parts.append(
                f"<div class=wide><table><thead><tr>{cells}</tr></thead>"
                f"<tbody>{body}</tbody></table></div>"
            )
        parts.append("<h2>Pictures</h2>")
        pictures = [(trend.measure, trend_picture(trend)) for trend in self.trends]
        if self.curve is not None:
            title = "hit ratio by size of memory"
            pictures.insert(0, (title, curve_picture(self.curve.curve, self.curve.size)))
        parts += [
            f'<figure><img alt="{_escaped(name)}" src="{uri}"></figure>' for name, uri in pictures
        ]
        return _PAGE.format(title=_escaped(self._title()), body="\n".join(parts))

    def _title(self) -> str:
        return f"Cache {self.cache}" if self.cache else "Cache"

    def _tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        marks = [mark for trend in self.trends for mark in trend.anomalies]
        units = {trend.measure: trend.unit for trend in self.trends}
        tables = [
            (
                "Trends",
                ["Measure", "First quarter", "Last quarter", "Change", "Course"],
                [
                    [
                        trend.measure,
                        _number(trend.first, trend.unit),
                        _number(trend.last, trend.unit),
                        "" if trend.change is None else f"{trend.change:+.0%}",
                        sparkline(trend.course),
                    ]
                    for trend in self.trends
                ],
            ),
            (
                "Out of the ordinary",
                ["Measure", "From", "To", "Was", "Expected"],
                [
                    [
                        mark.measure,
                        _when(mark.begin),
                        _when(mark.end),
                        _number(mark.value, units[mark.measure]),
                        _number(mark.expected, units[mark.measure]),
                    ]
                    for mark in sorted(marks, key=lambda mark: mark.begin)
                ],
            ),
            (
                "Capacity",
                ["Of", "Now", "Expected", "Between", "Full"],
                growth_rows(self.growth),
            ),
        ]
        if self.objectives:
            rows = [
                [
                    one.name,
                    f"{one.objective:.4%}",
                    f"{one.good:.4%}",
                    f"{one.spent:.0%}",
                    "kept" if one.is_kept else "violated",
                ]
                for one in self.objectives
            ]
            head = ["Objective", "Wanted", "Was", "Budget used", ""]
            tables.insert(0, ("Objectives", head, rows))
        return tables


def make_report(
    history: MetricHistory,
    cache: str,
    begin: float,
    end: float,
    *,
    slos: Sequence[Slo] = (),
) -> CacheReport:
    """Report on a cache from its history.

    Raises:
        ConfigurationError: there is no such cache in the history, or nothing of that time.
    """
    known = history.caches()
    if cache not in known:
        raise ConfigurationError(
            f"the history tells nothing of a cache {cache!r}, but of {', '.join(map(repr, known))}"
        )
    course = Course(history, cache, begin, end)
    if course.is_empty:
        raise ConfigurationError(
            f"the history tells nothing of {cache!r} from {_when(begin)} to {_when(end)}"
        )
    curves = history.curves(cache, begin, end)
    return CacheReport(
        cache,
        begin,
        end,
        tuple(trends(course)),
        tuple(growth(course, curves)),
        tuple(advise(course, curves)),
        tuple(kept for slo in slos if (kept := objective(course, slo)) is not None),
        curves[-1] if curves else None,
    )


def growth(course: Course, curves: Sequence[SavedCurve] = ()) -> list[Growth]:
    """What memory, disk, working set and quota will take as far ahead as the course goes back."""
    unit = " entries" if not curves or curves[-1].curve.unit == "entries" else "B"
    found = [
        _grown("memory", "B", course.state("memory_bytes"), None),
        _grown("working set", unit, course.state("working_set"), None),
        _grown(
            "disk", "B", course.state("disk_bytes", part="pages"), course.state("disk_max_bytes")
        ),
    ]
    used = course.grown("origin_quota_used_total")
    if used is not None and used.values.any():
        total = used._replace(values=used.values.cumsum())
        found.append(_grown("origin quota used", " units", total, None))
    return [one for one in found if one is not None]


def growth_rows(growth: Sequence[Growth]) -> list[list[str]]:
    """What is told of each."""
    return [
        [
            one.of,
            _number(one.now, one.unit),
            _number(one.expected.value, one.unit),
            f"{_number(one.expected.lower, one.unit)} and {_number(one.expected.upper, one.unit)}",
            _full(one),
        ]
        for one in growth
    ]


def _grown(of: str, unit: str, values: Values | None, bound: Values | None) -> Growth | None:
    if values is None or len(values.times) < 5:
        return None
    seen = thinned(values.values.tolist(), POINTS)
    step = float(values.times[-1] - values.times[0]) / (len(seen) - 1)
    most = None if bound is None else float(bound.values[-1])
    expected = expected_growth(seen, most=float("inf") if most is None else max(most, seen[-1]))
    full_in = None if most is None else reached_in(seen, step, 0.99 * most)
    return Growth(of, unit, seen[-1], expected, most, full_in)


def objective(course: Course, slo: Slo) -> Kept | None:
    """Whether an objective was kept; None if there was no lookup that it is about."""
    count = "request_duration_seconds_count"
    lookups = course.total(count, tier="all")
    if not lookups:
        return None
    if slo.threshold is not None:
        bucket = str(BOUNDS[BOUNDS.index(seconds(slo.threshold))])
        good = course.total("request_duration_seconds_bucket", tier="all", le=bucket) / lookups
    else:
        result = {"availability": "error", "freshness": "stale"}[slo.name]
        good = 1 - course.total(count, tier="all", result=result) / lookups
    return Kept(slo.name, slo.objective, good, lookups, (1 - good) / slo.budget)


class Reporter:
    """Writes a report of every cache in a history into a directory, every so often.

    Files are called after the cache and the day, ``users-2026-03-01.html``; one of the same name is
    replaced.

    Args:
        history: `Historian.history`, or one of its own.
        directory: where reports go; made if missing.
        every: how often, and how far each goes back.
        formats: "html", "markdown" or both.
        clock: the time in seconds since the epoch.
        start: whether a thread is started that does so; without it, `write` does it once.
    """

    def __init__(
        self,
        history: MetricHistory,
        directory: str | os.PathLike[str],
        *,
        every: Duration = "1d",
        formats: Sequence[str] = ("html",),
        slos: Sequence[Slo] = (),
        clock: Callable[[], float] = time.time,
        start: bool = True,
    ) -> None:
        unknown = set(formats) - set(_SUFFIXES)
        if unknown or not formats:
            raise ConfigurationError(f"formats are html and markdown, got {list(formats)!r}")
        self._every = seconds(every)
        if not self._every > 0:
            raise ConfigurationError("every is expected to be more than no time")
        self._history, self._formats, self._slos = history, formats, slos
        self._directory = Path(directory)
        self._clock = clock
        self._closed = Event()
        if start:
            Thread(target=self._run, name="hybridcore-reports", daemon=True).start()

    def write(self) -> list[Path]:
        """Write them now; returns the files."""
        self._directory.mkdir(parents=True, exist_ok=True)
        end = self._clock()
        day = time.strftime("%Y-%m-%d", time.gmtime(end))
        written = []
        for cache in self._history.caches():
            try:
                report = make_report(self._history, cache, end - self._every, end, slos=self._slos)
            except ConfigurationError:  # nothing is known of it lately
                continue
            for form in self._formats:
                name = re.sub(r"[^\w.-]", "_", cache) or "cache"
                file = self._directory / f"{name}-{day}{_SUFFIXES[form]}"
                new = file.with_suffix(".new")
                new.write_text(getattr(report, form)(), encoding="utf-8")
                new.replace(file)
                written.append(file)
        return written

    def close(self) -> None:
        """Write no more."""
        self._closed.set()

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self) -> None:
        while not self._closed.wait(self._every):
            try:
                self.write()
            except Exception as error:
                log.warning("reports were not written: %s", raised_by(error))


_SUFFIXES = {"html": ".html", "markdown": ".md"}


def sparkline(values: Values, width: int = 24) -> str:
    """A course as a line of bars."""
    seen = thinned(values.values.tolist(), width)
    low, high = min(seen), max(seen)
    if high == low:
        return _BARS[3] * len(seen)
    return "".join(_BARS[int((value - low) / (high - low) * 7.999)] for value in seen)


def _number(value: float, unit: str) -> str:
    if unit == "B":
        return in_words(value, "bytes")
    return f"{value:,.4g}{unit}"


def _full(growth: Growth) -> str:
    if growth.bound is None:
        return ""
    if growth.full_in is None:
        return f"not foreseen, of {_number(growth.bound, growth.unit)}"
    if growth.full_in == 0:
        return f"now, of {_number(growth.bound, growth.unit)}"
    hours = growth.full_in / 3600
    return f"in {hours:,.0f} h" if hours < 72 else f"in {hours / 24:,.0f} days"


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)


def _marked(text: str) -> str:
    """Text in which Markdown sees no marks, nor HTML."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text).replace("\n", " ")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; }}
body {{ margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; }}
th, td {{ text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #8885; }}
.wide {{ overflow-x: auto; }}
figure {{ margin: 1rem 0; }}
img {{ max-width: 100%; background: #fff; }}
</style></head><body>
{body}
</body></html>
"""
