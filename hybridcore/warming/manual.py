"""Manual warming: keys, a prefix, a file of keys, or a function that names them."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ClosedError, ConfigurationError
from hybridcore.origins.threads import run_in_thread
from hybridcore.units import Duration, seconds
from hybridcore.warming.ledger import Warmed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from threading import BoundedSemaphore

    from hybridcore.hybrid import HybridCache
    from hybridcore.types import Refreshed
    from hybridcore.warming.budget import Budget
    from hybridcore.warming.ledger import Ledger
    from hybridcore.warming.prices import Prices
    from hybridcore.warming.shelf import Shelf

_DAY = 86_400.0


@dataclass(slots=True)
class Report:
    """What became of the keys of one warming: how many, and which failed, with their errors.

    ``is_complete`` tells that it was not ended by ``within``, the budget or `Warmer.close`.
    """

    keys: int = 0
    loaded: int = 0
    not_modified: int = 0
    promoted: int = 0
    fresh: int = 0
    elsewhere: int = 0
    missing: int = 0
    skipped: int = 0
    unaffordable: int = 0
    failed: dict[Any, Exception] = field(default_factory=dict)
    seconds: float = 0.0
    is_complete: bool = True

    @property
    def warmed(self) -> int:
        """Keys that are warm now and were not before."""
        return self.loaded + self.not_modified + self.promoted


class Manual:
    """The part of a warmer that does what it is told."""

    store: HybridCache[Any, Any]
    budget: Budget
    ledger: Ledger
    prices: Prices
    shelf: Shelf
    _slots: BoundedSemaphore
    _clock: Callable[[], float]
    _batch: int
    _most_at_once: int
    _closed: bool
    _workers: ThreadPoolExecutor | None

    def warm(
        self,
        what: Iterable[Any] | os.PathLike[str] | Callable[[], Iterable[Any]] | None = None,
        *,
        prefix: Any = None,
        progress: Callable[[int, int | None], object] | None = None,
        rate: float | None = None,
        concurrency: int | None = None,
        unless_left: Duration | None = 0,
        ask: bool = True,
        loader: Callable[[Any], Any] | None = None,
        budgeted: bool = False,
        within: Duration | None = None,
        strategy: str = "manual",
    ) -> Report:
        """Warm keys now; waits until it is done and raises for none of them.

        Args:
            what: keys; a path of a file with a key a line; or a function that returns keys.
            prefix: in their place: what is on disk under keys that begin so.
            progress: called with how many are done, and of how many if that is known.
            rate: keys a second at most.
            concurrency: batches under way at a time, up to ``max_concurrent_warms``.
            unless_left: keys fresh for longer are left alone; None: load all anew.
            ask: False: only promote from disk.
            loader: asked in the place of the origin.
            budgeted: stop when the budget is spent. It is charged in any case.
            within: stop after so long.
            strategy: under which name it is booked.

        Raises:
            ConfigurationError: neither ``what`` nor ``prefix``, or both.
            OSError: the file cannot be read.
            ClosedError: the warmer was closed.
        """
        if self._closed:
            raise ClosedError("this warmer was closed")
        if rate is not None and not rate > 0:
            raise ConfigurationError(f"rate is expected to be keys a second, got {rate!r}")
        keys, total = self._keys(what, prefix)
        report = Report()
        began = monotonic()
        deadline = None if within is None else began + seconds(within)
        left = None if unless_left is None else seconds(unless_left)
        at_once = min(concurrency or self._most_at_once, self._most_at_once)
        size = self._batch if self.prices.coalesces or not ask else 1
        if rate is not None:
            size = max(1, min(size, int(rate)))
        paced = Event()

        def one(batch: list[Any]) -> Refreshed:
            with self._slots:
                return self.store.refresh_many(batch, unless_left=left, ask=ask, loader=loader)

        def booked(batch: list[Any], outcome: Refreshed) -> None:
            self._book_manual(strategy, batch, outcome)
            _add(report, outcome)
            if progress is not None:
                progress(report.keys, total)

        running: dict[Future[Refreshed], list[Any]] = {}
        pool = (
            ThreadPoolExecutor(at_once, "hybridcore-warm")
            if self._workers is not None and at_once > 1
            else None
        )
        try:
            while batch := list(islice(keys, size)):
                if self._closed or (deadline is not None and monotonic() >= deadline):
                    report.is_complete = False
                    break
                if ask and loader is None:
                    calls = 1 if self.prices.coalesces else len(batch)
                    if budgeted and not (
                        self.budget.allows(self.prices.usage())
                        and self.budget.take(calls, self.prices.mean_bytes * len(batch))
                    ):
                        report.unaffordable += len(batch)
                        report.is_complete = False
                        break
                    if not budgeted:
                        self.budget.charge(calls=calls, bytes=self.prices.mean_bytes * len(batch))
                if rate is not None:
                    pause = began + report.keys / rate - monotonic()
                    if pause > 0:
                        paced.wait(pause)
                if pool is None:
                    booked(batch, one(batch))
                    continue
                running[pool.submit(one, batch)] = batch
                if len(running) >= at_once:
                    for done in wait(running, return_when=FIRST_COMPLETED).done:
                        booked(running.pop(done), done.result())
            for done in list(running):
                booked(running.pop(done), done.result())
        finally:
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)
        report.seconds = monotonic() - began
        return report

    async def awarm(self, *args: Any, **options: Any) -> Report:
        """Twin of `warm`: it is carried out in a thread."""
        report: Report = await run_in_thread(lambda: self.warm(*args, **options))
        return report

    def _keys(self, what: Any, prefix: Any) -> tuple[Iterator[Any], int | None]:
        if (what is None) == (prefix is None):
            raise ConfigurationError("warm either keys, a file or a function, or a prefix=")
        if prefix is not None:
            disk = self.store._engine.disk
            if disk is None:
                raise ConfigurationError("prefix= is looked up on disk, and there is none")
            return disk.keys_from(prefix), None
        if callable(what):
            what = what()
        if isinstance(what, os.PathLike):
            what = list(keys_in(Path(what)))
        if isinstance(what, (str, bytes)):
            raise ConfigurationError(
                f"keys are expected, got {what!r}. Write [{what!r}], prefix={what!r}, or "
                f"pathlib.Path({what!r})."
            )
        keys = dict.fromkeys(what)
        return iter(keys), len(keys)

    def _book_manual(self, strategy: str, batch: list[Any], outcome: Refreshed) -> None:
        warmed = outcome.loaded + outcome.not_modified
        asked = len(warmed) + len(outcome.missing) + len(outcome.failed)
        renewed = set(outcome.not_modified)
        quota = sum(self.prices.paid_for(key in renewed) for key in warmed)
        self.budget.charge(cost=quota)
        self.ledger.add(
            strategy,
            warmed=len(warmed) + len(outcome.promoted),
            promoted=len(outcome.promoted),
            failed=len(outcome.missing) + len(outcome.failed),
            calls=min(asked, 1) if self.prices.coalesces else asked,
            not_modified=len(renewed),
            quota=quota,
            bytes=self.prices.mean_bytes * len(warmed),
            seconds=outcome.seconds,
        )
        now = self._clock()
        for key in [*warmed, *outcome.promoted]:
            life = self.shelf.life(key)
            until = now + (_DAY if life is None or life.left is None else life.left)
            uses = 0 if life is None else life.uses
            fate = Warmed(strategy, uses, now, until, self.prices.seconds_of(key), 0.0, 0.0)
            for _ in self.ledger.await_fate(key, fate):
                pass


def _add(report: Report, outcome: Refreshed) -> None:
    counts = Counter(
        {
            name: len(getattr(outcome, name))
            for name in (
                "loaded",
                "not_modified",
                "promoted",
                "fresh",
                "elsewhere",
                "missing",
                "skipped",
            )
        }
    )
    for name, count in counts.items():
        setattr(report, name, getattr(report, name) + count)
    report.keys += sum(counts.values()) + len(outcome.failed)
    report.failed |= outcome.failed


def keys_in(file: Path) -> Iterator[str]:
    """The keys of a text file, one a line; empty lines are none."""
    with file.open(encoding="utf-8-sig") as lines:
        for line in lines:
            key = line.rstrip("\r\n")
            if key:
                yield key
