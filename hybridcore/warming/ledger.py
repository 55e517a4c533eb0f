"""The ledger: what each strategy warmed, what became of it, and what it cost."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import fields
from itertools import islice
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

from hybridcore.stats import StrategyStats

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hybridcore.warming.shelf import Shelf
    from hybridcore.warming.turns import Turns

_MOST = 100_000
"""Entries whose fate is awaited; of more the oldest count as wasted."""
_LOOKED_AT = 2_000
"""Entries looked at in one round."""
_COUNTERS = [
    field.name for field in fields(StrategyStats) if field.name not in ("waiting", "is_on")
]


class Warmed(NamedTuple):
    """An entry that was warmed and whose fate is awaited."""

    strategy: str
    uses: int
    """Counted by memory when it was warmed."""
    since: float
    """When it would have expired: uses before then would have been hits without it."""
    until: float
    """When it is over, used or not."""
    spares: float
    """Seconds that a hit spares its reader."""
    expected_loss: float
    """Quota taken from the overhead for it."""
    price: float
    """Quota lost if it is in vain."""


class Fate(NamedTuple):
    """What became of a warmed entry."""

    key: Any
    warmed: Warmed
    is_hit: bool


class Ledger:
    """The books of warming; safe for threads, bounded."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._books: dict[str, dict[str, float]] = {}
        self._awaited: OrderedDict[Any, Warmed] = OrderedDict()
        self.off: set[str] = set()

    def add(self, strategy: str, **amounts: float) -> None:
        """Add to the counters of a strategy."""
        with self._lock:
            book = self._books.get(strategy)
            if book is None:
                book = self._books[strategy] = dict.fromkeys(_COUNTERS, 0)
            for name, amount in amounts.items():
                book[name] += amount

    def await_fate(self, key: Any, warmed: Warmed) -> Iterator[Fate]:
        """Follow an entry from now on; tells of those whose place it takes."""
        with self._lock:
            before = self._awaited.pop(key, None)
            self._awaited[key] = warmed
            oldest = self._awaited.popitem(last=False) if len(self._awaited) > _MOST else None
        if before is not None:
            yield self._close(key, before, before.strategy == "startup")
        if oldest is not None:
            yield self._close(*oldest, False)

    def awaits(self, key: Any) -> Warmed | None:
        """What is followed of the key, if it is."""
        return self._awaited.get(key)

    def closed(self, key: Any, is_hit: bool) -> Fate | None:
        """The fate of the key is known."""
        with self._lock:
            warmed = self._awaited.pop(key, None)
        return None if warmed is None else self._close(key, warmed, is_hit)

    def look(
        self, shelf: Shelf, now: float, turns: Turns, only: Iterable[Any] | None = None
    ) -> Iterator[Fate]:
        """See what became of ``only`` these entries, or of some, and others at the next look."""
        with self._lock:
            keys = list(islice(self._awaited, _LOOKED_AT)) if only is None else only
        for key in keys:
            turns.rest()
            with self._lock:
                warmed = self._awaited.get(key)
                if warmed is None:
                    continue
                self._awaited.move_to_end(key)
            used = shelf.uses(key)
            if now < warmed.since:
                if used != warmed.uses:
                    with self._lock:
                        if key in self._awaited:
                            self._awaited[key] = warmed._replace(uses=used)
                continue
            if used > warmed.uses or (used and used >= shelf.MOST_USES):
                is_hit = True
            elif now >= warmed.until or (not used and not shelf.has_disk):
                is_hit = False
            else:
                continue
            fate = self.closed(key, is_hit)
            if fate is not None:
                yield fate

    def stats(self, names: Iterator[str] | tuple[str, ...] = ()) -> dict[str, StrategyStats]:
        """A snapshot, of strategies that did nothing yet, too."""
        with self._lock:
            for name in names:
                self.add(name)
            waiting = dict.fromkeys(self._books, 0)
            for warmed in self._awaited.values():
                waiting[warmed.strategy] += 1
            return {
                name: StrategyStats(
                    **{
                        counter: amount if counter in ("quota", "seconds", "saved") else int(amount)
                        for counter, amount in book.items()
                    },  # type: ignore[arg-type]
                    waiting=waiting[name],
                    is_on=name not in self.off,
                )
                for name, book in self._books.items()
            }

    def _close(self, key: Any, warmed: Warmed, is_hit: bool) -> Fate:
        if is_hit:
            self.add(warmed.strategy, hits=1, saved=warmed.spares)
        else:
            self.add(warmed.strategy, wasted=1)
        return Fate(key, warmed, is_hit)
