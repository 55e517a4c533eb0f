"""`Objectives`: what became of objectives by day, bad requests and violations, and by month."""

from __future__ import annotations

import json
import logging
import re
from calendar import monthrange
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ConfigurationError
from hybridcore.logs import RateLimitedLog, raised_by
from hybridcore.monitoring.signals import History, Share

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from hybridcore.monitoring.signals import Samples
    from hybridcore.monitoring.slo import Slo

log = RateLimitedLog(logging.getLogger("hybridcore"))

_KEPT = 400
"""Days that are kept."""
_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class Violation:
    """A stretch of time in which an alert of an objective fired; ``end`` None: it still does."""

    alert: str
    begin: float
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Month:
    """What became of an objective of a cache in a month.

    ``attained`` is the share of good requests, None without any, ``spent`` the part of the error
    budget of this month's requests that is used up: above 1 the objective was missed. ``days`` has
    the bad and all requests of each day.
    """

    cache: str
    slo: str
    month: str
    objective: float
    requests: float
    bad: float
    attained: float | None
    spent: float | None
    is_met: bool | None
    days: tuple[tuple[float, float], ...]
    violations: tuple[Violation, ...]

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


class Objectives:
    """Counts bad and all requests of objectives by day (UTC), and notes when their alerts fire.

    Args:
        slos: the objectives.
        path: a file in which it is kept, and from which it goes on; None: in memory alone.

    Raises:
        ConfigurationError: the file was not written by this class.
    """

    def __init__(self, slos: Iterable[Slo], path: str | os.PathLike[str] | None = None) -> None:
        self._slos = {slo.name: slo for slo in slos}
        self._path = None if path is None else Path(path)
        self._lock = Lock()
        self._before: dict[str, tuple[float, Samples]] = {}
        self._days: dict[str, list[float]] = {}
        self._violations: dict[str, list[Violation]] = {}
        self._saved_at = 0.0
        if self._path is not None and self._path.exists():
            self._load(self._path)

    def observe(self, cache: str, at: float, samples: Samples) -> None:
        """Count what happened since the snapshot before."""
        with self._lock:
            before = self._before.get(cache)
            self._before[cache] = (at, samples)
            if before is None or at <= before[0]:
                return
            history = History(slo.bad(1) for slo in self._slos.values())
            history.add(*before)
            history.add(at, samples)
            day = datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d")
            for slo in self._slos.values():
                share = slo.bad(at - before[0])
                assert isinstance(share, Share)
                part, whole = share.part.value(history), share.whole.value(history)
                if not whole:
                    continue
                bad = whole - (part or 0.0) if share.rest else part or 0.0
                counts = self._days.setdefault(f"{cache}\n{slo.name}\n{day}", [0.0, 0.0])
                counts[0] += min(max(bad, 0.0), whole)
                counts[1] += whole
            self._forget()
            if self._path is not None and at >= self._saved_at + 60:
                self._saved_at = at
                self._try_to_save(self._path)

    def changed(self, cache: str, slo: str, alert: str, at: float, *, fires: bool) -> None:
        """An alert of an objective began to fire, or is over."""
        with self._lock:
            known = self._violations.setdefault(f"{cache}\n{slo}", [])
            if fires:
                known.append(Violation(alert, at))
                return
            for number, violation in enumerate(known):
                if violation.alert == alert and violation.end is None:
                    known[number] = Violation(alert, violation.begin, at)

    def month(self, month: str) -> list[Month]:
        """What became of each objective in a month such as ``"2026-11"``, by cache.

        Raises:
            ConfigurationError: it is no month.
        """
        if not isinstance(month, str) or not _MONTH.fullmatch(month):
            raise ConfigurationError(f'expected a month such as "2026-11", got {month!r}')
        year, number = map(int, month.split("-"))
        length = monthrange(year, number)[1]
        begin = datetime(year, number, 1, tzinfo=timezone.utc).timestamp()
        with self._lock:
            days, violations = dict(self._days), dict(self._violations)
        caches = sorted({name.split("\n")[0] for name in [*days, *violations]})
        return [
            _month(
                cache,
                slo,
                month,
                [
                    days.get(f"{cache}\n{slo.name}\n{month}-{day:02}", [0.0, 0.0])
                    for day in range(1, length + 1)
                ],
                [
                    violation
                    for violation in violations.get(f"{cache}\n{slo.name}", [])
                    if violation.begin < begin + length * 86_400
                    and (violation.end is None or violation.end >= begin)
                ],
            )
            for cache in caches
            for slo in self._slos.values()
        ]

    def close(self) -> None:
        """Save what is not saved yet."""
        if self._path is not None:
            with self._lock:
                self._try_to_save(self._path)

    def _forget(self) -> None:
        by_day = sorted({name.split("\n")[2] for name in self._days})
        for day in by_day[:-_KEPT]:
            for name in [name for name in self._days if name.endswith(day)]:
                del self._days[name]

    def _load(self, path: Path) -> None:
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            self._days = {name: [float(bad), float(all_)] for name, (bad, all_) in told[0].items()}
            self._violations = {
                name: [Violation(*one) for one in found] for name, found in told[1].items()
            }
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise ConfigurationError(
                f"{path} does not tell of objectives ({error}). Give another file, or remove it"
            ) from None

    def _try_to_save(self, path: Path) -> None:
        try:
            self._save(path)
        except OSError as error:
            log.warning("objectives were not saved: %s", raised_by(error))

    def _save(self, path: Path) -> None:
        told = [
            self._days,
            {
                name: [[one.alert, one.begin, one.end] for one in found]
                for name, found in self._violations.items()
            },
        ]
        new = path.with_name(f"{path.name}.new")
        new.write_text(json.dumps(told), encoding="utf-8")
        new.replace(path)


def _month(
    cache: str, slo: Slo, month: str, days: list[list[float]], violations: list[Violation]
) -> Month:
    bad, requests = (sum(counts[column] for counts in days) for column in (0, 1))
    attained = 1 - bad / requests if requests else None
    spent = bad / requests / slo.budget if requests else None
    return Month(
        cache,
        slo.name,
        month,
        slo.objective,
        requests,
        bad,
        attained,
        spent,
        None if spent is None else spent <= 1,
        tuple((counts[0], counts[1]) for counts in days),
        tuple(violations),
    )
