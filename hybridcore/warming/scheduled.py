"""Scheduled warming: by cron expression, or in the hours in which little is asked for."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from contextlib import suppress
from datetime import datetime, tzinfo
from datetime import timezone as fixed
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from hybridcore.errors import ConfigurationError, KeyEncodingError
from hybridcore.logs import RateLimitedLog, raised_by
from hybridcore.warming.strategy import Heard, Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hybridcore.warming.shelf import Shelf

log = RateLimitedLog(logging.getLogger("hybridcore"))

_HOURS = 7 * 24
_REMEMBERED = 20_000
_FADE_A_DAY = 0.7


class Scheduled:
    """Warms at set times what is popular, or what it is told to.

    Popular are the keys that memory values most, and those that were in demand on the days before.

    Args:
        when: a cron expression such as ``"30 5 * * mon-fri"``, or ``"off-peak"``: once a day, in
            the hour of this day of the week in which least was asked for so far. Until a whole
            day was seen it does not run.
        what: keys, or a function that returns some; None: what is popular.
        count: popular keys at most.
        timezone: such as ``"Europe/Vienna"``, in which ``when`` is meant. A time that does not
            exist for summer time runs when it would have been, one that is there twice once.
        missed: ``"run"``: what was due while nobody ran is made up for, once; ``"skip"``: not.
        refresh: warm what is fresh, too.
        state: a file in which the hours and days before survive a restart.
    """

    is_on = True

    def __init__(
        self,
        when: str,
        what: Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
        *,
        name: str = "scheduled",
        count: int = 1_000,
        timezone: str = "UTC",
        missed: Literal["run", "skip"] = "run",
        refresh: bool = False,
        state: str | os.PathLike[str] | None = None,
    ) -> None:
        if missed not in ("run", "skip"):
            raise ConfigurationError(f'missed is expected to be "run" or "skip", got {missed!r}')
        if isinstance(what, (str, bytes)):
            raise ConfigurationError(f"keys are expected, got {what!r}; write [{what!r}]")
        self.name = name
        self._cron = None if when == "off-peak" else when
        self._what = what if what is None or callable(what) else list(what)
        self._count = count
        self._zone = _zone(timezone)
        self._missed = missed
        self._refresh = refresh
        self._state = None if state is None else Path(state)
        self._ran: float | None = None
        self._next: float | None = None
        self._traffic = [0.0] * _HOURS
        self._seen = [0] * _HOURS
        self._hour: tuple[int, int] | None = None
        self._lookups: int | None = None
        self._demand: OrderedDict[Any, float] = OrderedDict()
        self.missed = 0
        """Times that were due while nobody ran."""
        if self._cron is not None:
            _times(self._cron, datetime.now(self._zone))
        self._load()

    # -- the strategy -----------------------------------------------------------------------

    def hear(self, what: Heard, key: Any, now: float, shelf: Shelf) -> None:
        """Count demand of the day."""
        if what is Heard.DEMAND:
            self._demand[key] = self._demand.pop(key, 0.0) + 1.0
            if len(self._demand) > _REMEMBERED:
                self._demand.popitem(last=False)

    def wishes(self, now: float, shelf: Shelf) -> Iterator[Wish]:
        """What to warm if it is time."""
        self._count_traffic(now, shelf)
        if not self._is_time(now):
            return
        self._ran = now
        self._save()
        for key in self._keys(shelf):
            # Told to: what it brings is taken for certain, what it costs is the budget's affair.
            yield Wish(
                key,
                self.name,
                1.0,
                extra=0.0,
                unless_left=1e12 if self._refresh else 0.0,
                reason="it is time",
            )

    def next_at(self) -> float | None:
        """When it is due by its cron expression."""
        return self._next

    def resolved(self, key: Any, is_hit: bool) -> None:
        """The ledger tells."""

    # -- when -------------------------------------------------------------------------------

    def _is_time(self, now: float) -> bool:
        if self._cron is None:
            return self._is_off_peak(now)
        if self._next is None:  # the first look since the start
            since = now if self._ran is None else self._ran
            due = self._after(since)
            if due <= now:
                while due <= now:
                    self.missed += 1
                    self._next = due = self._after(due)
                log.info("%s: %d times were missed", self.name, self.missed)
                return self._missed == "run"
            self._next = due
            return False
        if now < self._next:
            return False
        due = self._after(self._next)
        late = 0
        while due <= now:  # it slept over some
            late += 1
            due = self._after(due)
        self.missed += late
        self._next = due
        return True

    def _after(self, moment: float) -> float:
        assert self._cron is not None
        local = datetime.fromtimestamp(moment, self._zone)
        return next(_times(self._cron, local)).timestamp()

    def _is_off_peak(self, now: float) -> bool:
        local = datetime.fromtimestamp(now, self._zone)
        if sum(map(bool, self._seen)) < 24:
            return False
        if self._ran is not None:
            ran = datetime.fromtimestamp(self._ran, self._zone)
            if ran.date() == local.date():
                return False
        day = local.weekday() * 24
        hours = [self._expected(day + hour) for hour in range(24)]
        quietest = hours.index(min(hours))
        if local.hour > quietest:  # nobody ran at that hour
            self.missed += self._missed == "skip"
            return self._missed == "run" and self._ran is not None
        return local.hour == quietest

    def _expected(self, slot: int) -> float:
        """Traffic of an hour of the week; before it was seen that of the hour of other days."""
        if self._seen[slot]:
            return self._traffic[slot]
        others = [self._traffic[s] for s in range(slot % 24, _HOURS, 24) if self._seen[s]]
        return sum(others) / len(others) if others else float("inf")

    def _count_traffic(self, now: float, shelf: Shelf) -> None:
        lookups = shelf.lookups()
        local = datetime.fromtimestamp(now, self._zone)
        hour = (local.toordinal(), local.hour)
        if self._hour is None:
            self._hour, self._lookups = hour, lookups
            return
        if hour == self._hour or self._lookups is None:
            return
        ordinal, of_day = self._hour
        slot = (ordinal + 6) % 7 * 24 + of_day
        count = max(0, lookups - self._lookups)
        self._traffic[slot] = (self._traffic[slot] + count) / 2 if self._seen[slot] else count
        self._seen[slot] += 1
        if hour[0] != ordinal:
            for key in list(self._demand):
                self._demand[key] *= _FADE_A_DAY
                if self._demand[key] < 0.5:
                    del self._demand[key]
        self._hour, self._lookups = hour, lookups
        self._save()

    # -- what -------------------------------------------------------------------------------

    def _keys(self, shelf: Shelf) -> list[Any]:
        if self._what is not None:
            return list(self._what() if callable(self._what) else self._what)
        # Half of each, the rest from whichever has more.
        live = shelf.hottest(self._count)
        before = sorted(self._demand, key=self._demand.__getitem__, reverse=True)
        half = self._count // 2
        chosen = dict.fromkeys([*live[:half], *before[:half], *live[half:], *before[half:]])
        return list(chosen)[: self._count]

    # -- what survives a restart -------------------------------------------------------------

    def _save(self) -> None:
        if self._state is None:
            return
        import msgspec

        from hybridcore.disk.keys import encode_key

        demand = []
        for key in sorted(self._demand, key=self._demand.__getitem__, reverse=True)[: self._count]:
            with suppress(KeyEncodingError):
                demand.append((encode_key(key), self._demand[key]))
        content = {
            "ran": self._ran,
            "traffic": self._traffic,
            "seen": self._seen,
            "demand": demand,
        }
        draft = self._state.with_name(f".{self._state.name}.{os.getpid()}")
        try:
            draft.write_bytes(msgspec.msgpack.encode(content))
            os.replace(draft, self._state)
        except OSError as error:
            log.warning("%s: the state was not saved: %s", self.name, raised_by(error))

    def _load(self) -> None:
        if self._state is None:
            return
        import msgspec

        from hybridcore.disk.keys import decode_key

        try:
            content = msgspec.msgpack.decode(self._state.read_bytes())
            traffic, seen = content["traffic"], content["seen"]
            if len(traffic) != _HOURS or len(seen) != _HOURS:
                raise ValueError("it has another number of hours")
            demand = {decode_key(form): amount for form, amount in content["demand"]}
            ran = content["ran"]
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, msgspec.DecodeError) as error:
            log.warning("%s: the state was not read: %s", self.name, raised_by(error))
            return
        self._ran, self._traffic, self._seen = ran, traffic, seen
        self._demand = OrderedDict(reversed(demand.items()))


def _times(expression: str, after: datetime) -> Iterator[datetime]:
    try:
        from cronsim import CronSim, CronSimError
    except ImportError as error:
        raise ConfigurationError(
            "cron expressions need cronsim: pip install hybridcore[warming]"
        ) from error
    try:
        return cast("Iterator[datetime]", CronSim(expression, after))
    except CronSimError as error:
        raise ConfigurationError(f"{expression!r} is no cron expression: {error}") from None


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if name == "UTC":
        return fixed.utc
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(
            f'there is no time zone {name!r}; expected one such as "Europe/Vienna"'
        ) from None
