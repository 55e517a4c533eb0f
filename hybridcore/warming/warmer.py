"""`Warmer`: weighs the wishes of its strategies and fulfils those that pay."""

from __future__ import annotations

import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore, Condition, RLock, Thread
from time import time
from typing import TYPE_CHECKING, Any
from weakref import ref

from hybridcore.errors import ClosedError, ConfigurationError
from hybridcore.events import Event, EventKind
from hybridcore.logs import RateLimitedLog, raised_by
from hybridcore.stats import WarmingStats
from hybridcore.units import Duration, seconds
from hybridcore.warming.budget import Budget
from hybridcore.warming.ledger import Fate, Ledger, Warmed
from hybridcore.warming.manual import Manual
from hybridcore.warming.predictive import PROMPT, Predictive
from hybridcore.warming.preemptive import Preemptive
from hybridcore.warming.prices import Prices
from hybridcore.warming.shelf import Life, Shelf
from hybridcore.warming.strategy import Heard, WarmingStrategy, Wish
from hybridcore.warming.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self

    from hybridcore.hybrid import HybridCache
    from hybridcore.types import Refreshed
    from hybridcore.warming.startup import Startup

log = RateLimitedLog(logging.getLogger("hybridcore"))

_KINDS = (
    EventKind.HIT,
    EventKind.LOAD,
    EventKind.LOAD_FAILED,
    EventKind.MISS,
    EventKind.STALE_SERVED,
    EventKind.REFRESH,
    EventKind.STORED,
    EventKind.DELETED,
)
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_HEARD_AT_MOST = 100_000
_FREE_CALL = 0.1
"""Quota that a call free of quota is taken to cost: it is work all the same."""


class Warmer(Manual):
    """Loads what readers are about to ask for, within a budget, and keeps books on whether it paid.

    It learns from what happens below memory; hits in memory are not touched. A wish of a strategy
    is fulfilled when the waiting that it is expected to spare is worth more than the quota it is
    expected to cost in vain and the entry that makes room.

    >>> from hybridcore import EntryOptions, HybridCache, Memory
    >>> store = HybridCache(Memory(100), origin=str.upper, defaults=EntryOptions(ttl="5m"))
    >>> with store, Warmer(store) as warmer:
    ...     _ = warmer.warm(["a", "b"])
    ...     store.get("a"), warmer.stats().strategies["manual"].warmed
    ('A', 2)

    Args:
        store: a `HybridCache`; close the warmer before it.
        strategies: by default `Preemptive` alone.
        startup: what to warm first, see `Startup`.
        budget: by default one that may raise the readers' own spending by 5 %.
        max_concurrent_warms: batches under way at a time, each one call of the origin.
        warming_batch_size: keys in a call of an origin that takes several; others get one each.
        tick: how often it looks around, at the latest.
        clock: seconds since the epoch.
        threaded: False: nothing happens but in `step`.
    """

    def __init__(
        self,
        store: HybridCache[Any, Any],
        *strategies: WarmingStrategy,
        startup: Startup | None = None,
        budget: Budget | None = None,
        max_concurrent_warms: int = 4,
        warming_batch_size: int = 50,
        max_waiting: int = 20_000,
        tick: Duration = 1.0,
        clock: Callable[[], float] = time,
        threaded: bool = True,
    ) -> None:
        for name, number in (
            ("max_concurrent_warms", max_concurrent_warms),
            ("warming_batch_size", warming_batch_size),
            ("max_waiting", max_waiting),
        ):
            if not isinstance(number, int) or number < 1:
                raise ConfigurationError(f"{name} is expected to be at least 1, got {number!r}")
        self.store = store
        self.strategies = strategies or (Preemptive(),)
        names = [strategy.name for strategy in self.strategies]
        if len(set(names)) < len(names):
            raise ConfigurationError(f"each strategy needs a name of its own, got {names}")
        self._prompt = [s for s in self.strategies if isinstance(s, Predictive) and s.is_prompt]
        self.budget = budget if budget is not None else Budget(clock=clock)
        self.ledger = Ledger()
        self.prices = Prices(store)
        self.shelf = Shelf(store)
        self._clock = clock
        self._tick = seconds(tick)
        self._batch = warming_batch_size
        self._most_waiting = max_waiting
        self._most_at_once = max_concurrent_warms
        self._slots = BoundedSemaphore(max_concurrent_warms)
        self._lock = RLock()
        self._wake = Condition(self._lock)
        self._inbox: deque[Event] = deque(maxlen=_HEARD_AT_MOST)
        self._ours: set[Any] = set()
        self._waiting: deque[tuple[Wish, float]] = deque()
        self._wished: set[Any] = set()
        self._under_way = 0
        self._pause = self._quiet_until = 0.0
        self._dropped = 0
        self._stepped_at = 0.0
        self._explained: deque[tuple[Wish, str]] = deque(maxlen=1_000)
        self._closed = False
        self._turns = Turns(are_taken=threaded)
        self._workers = (
            ThreadPoolExecutor(max_concurrent_warms, "hybridcore-warming") if threaded else None
        )
        self._startup = startup
        listener = ref(self)
        self._unsubscribe = store.on(lambda event: _tell(listener, event), _KINDS)
        store._engine.warming = lambda: None if (it := listener()) is None else it.stats()
        for strategy in self.strategies:
            if isinstance(strategy, Preemptive):
                strategy.adopt(clock(), self.shelf)
        self._thread: Thread | None = None
        if threaded:
            self._thread = Thread(
                target=_run, args=(listener, self._wake), name="hybridcore-warmer", daemon=True
            )
            self._thread.start()
        if startup is not None:
            startup.begin(self)

    # -- rounds ---------------------------------------------------------------------------

    def step(self, now: float | None = None) -> int:
        """One round: learn, settle the books, fulfil wishes; returns how many were begun."""
        return self._round(self._clock() if now is None else now, self.strategies)

    def glance(self, now: float | None = None) -> int:
        """A short round between two: of models that guess what comes in the next seconds."""
        return self._round(self._clock() if now is None else now, self._prompt, is_short=True)

    @property
    def glances(self) -> bool:
        """Whether there are such models."""
        return bool(self._prompt)

    def _round(
        self, now: float, strategies: Sequence[WarmingStrategy], *, is_short: bool = False
    ) -> int:
        with self._lock:
            if self._closed or self.store._engine.closed:
                return 0
            self._turns.begin()
            self._learn(now)
            only = [key for one in self._prompt for key in one.watched()] if is_short else None
            for fate in self.ledger.look(self.shelf, now, self._turns, only):
                self._resolve(fate, now)
            if not self.store.features.is_enabled("warming"):
                return 0
            self._collect(now, strategies)
            if self._startup is not None and not is_short:
                self._startup.keep_hot_set(self, now)
            return self._fulfil(now)

    def explain(self) -> list[tuple[Wish, str]]:
        """The latest wishes, and what was decided of each."""
        with self._lock:
            return list(self._explained)

    def stats(self) -> WarmingStats:
        """A snapshot of the ledger and the budget."""
        with self._lock:
            names = [strategy.name for strategy in self.strategies]
            self.ledger.off = {s.name for s in self.strategies if not s.is_on}
            books = self.ledger.stats(iter(names))
            waiting, dropped = len(self._waiting), self._dropped
            quiet = max(0.0, self._quiet_until - self._clock())
        return WarmingStats(books, self.budget.stats(), waiting, quiet, dropped, self.is_ready)

    @property
    def is_threaded(self) -> bool:
        """Whether it works by itself."""
        return self._workers is not None

    @property
    def is_ready(self) -> bool:
        """Whether what is ``required`` at the start is warm."""
        return self._startup is None or self._startup.is_ready

    def wait_until_ready(self, timeout: float | None = None) -> bool:
        """Wait until what is required is warm; False if that takes longer than so many seconds."""
        return self.is_ready or self._startup is None or self._startup.wait(timeout)

    def close(self, timeout: Duration = 5.0) -> None:
        """Begin nothing more, wait for what is under way, save the hot set."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._wake.notify_all()
        self._unsubscribe()
        if self._startup is not None:
            self._startup.end(self)
        if self._thread is not None:
            self._thread.join(seconds(timeout))
        if self._workers is not None:
            self._workers.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # -- learning -------------------------------------------------------------------------

    def _learn(self, now: float) -> None:
        for strategy in self.strategies:
            if isinstance(strategy, Preemptive):
                strategy.load_seconds = self.prices.mean_seconds
                batch = self._batch if self.prices.coalesces else 1
                strategy.refresh_seconds = self.prices.call_seconds / batch / self._most_at_once
            elif isinstance(strategy, Predictive):
                price = self._price() * self.prices.warmer_pays()
                strategy.break_even = price / (1 + price)
        while self._inbox:
            self._turns.rest()
            event = self._inbox.popleft()
            key, kind = event.key, event.kind
            if kind is EventKind.REFRESH:
                if event.reason == "warming":
                    self._ours.add(key)
                else:
                    self._hear(Heard.DEMAND, key, now)
            elif kind is EventKind.LOAD_FAILED:
                self._ours.discard(key)
            elif kind is EventKind.LOAD:
                if key in self._ours:
                    self._ours.discard(key)
                else:
                    self.prices.loaded(key, event.seconds or 0.0)
                    self.budget.readers_spent(self.prices.reader_pays())
                    self._demanded(key, False, now)
                self._hear(Heard.LOADED, key, now)
            elif kind is EventKind.HIT:
                self._demanded(key, True, now)
                self._hear(Heard.LOADED, key, now)
            elif kind is EventKind.DELETED:
                self._hear(Heard.GONE, key, now)
            elif kind is EventKind.STORED:
                self._hear(Heard.LOADED, key, now)
            else:
                self._demanded(key, False, now)

    def _demanded(self, key: Any, was_there: bool, now: float) -> None:
        fate = self.ledger.closed(key, was_there)
        if fate is not None:
            self._resolve(fate, now, heard=True)
        self._hear(Heard.DEMAND, key, now)

    def _hear(self, what: Heard, key: Any, now: float) -> None:
        for strategy in self.strategies:
            strategy.hear(what, key, now, self.shelf)

    def _resolve(self, fate: Fate, now: float, *, heard: bool = False) -> None:
        warmed = fate.warmed
        self.budget.settle((0.0 if fate.is_hit else warmed.price) - warmed.expected_loss)
        for strategy in self.strategies:
            if strategy.name == warmed.strategy:
                strategy.resolved(fate.key, fate.is_hit)
        if fate.is_hit and not heard:
            self._hear(Heard.DEMAND, fate.key, now)  # readers had it from memory, unheard

    # -- deciding -------------------------------------------------------------------------

    def _collect(self, now: float, strategies: Sequence[WarmingStrategy]) -> None:
        regret = self.shelf.regret()
        worth: list[tuple[float, float, Wish]] = []
        for strategy in strategies:
            for wish in strategy.wishes(now, self.shelf):
                self._turns.rest()
                if not strategy.is_on or wish.key in self._wished:
                    continue
                value, lost = self._value(wish, regret)
                if value <= 0:
                    self.ledger.add(wish.strategy, declined=1)
                    self._explained.append((wish, "not worth its price"))
                    continue
                worth.append((value, lost, wish))
        worth.sort(key=lambda item: -item[0])
        for _, lost, wish in worth:
            if len(self._waiting) >= self._most_waiting:
                self._dropped += 1
                continue
            self._waiting.append((wish, lost))
            self._wished.add(wish.key)

    def _value(self, wish: Wish, regret: float) -> tuple[float, float]:
        """What it is expected to bring, in mean loads, and the quota expected to be lost."""
        pays = self.prices.warmer_pays()
        extra = 1 - wish.probability if wish.extra is None else wish.extra
        lost = extra * pays
        share = self.prices.seconds_of(wish.key) / (self.prices.mean_seconds or 1.0)
        value = wish.probability * (share or 1.0)
        value -= self._price() * max(lost, extra * _FREE_CALL)
        if wish.extra is None:  # it takes the room of another
            value -= regret * (1 - wish.probability)
        return value, lost

    def _price(self) -> float:
        return self.budget.price * self.budget.scarcity()

    def _fulfil(self, now: float) -> int:
        begun = 0
        if now < self._quiet_until:
            return 0
        usage = self.prices.usage()
        if self._waiting and not self.budget.allows(usage):
            for wish, _ in self._waiting:
                self._refuse(wish, "the origin's quota is reserved for readers")
            self._waiting.clear()
        size = self._batch if self.prices.coalesces else 1
        while self._waiting and self._under_way < self._most_at_once and now >= self._quiet_until:
            batch: list[tuple[Wish, float]] = []
            left = self._waiting[0][0].unless_left
            while self._waiting and len(batch) < size:
                wish, lost = self._waiting.popleft()
                self._wished.discard(wish.key)
                calls = 0 if batch and self.prices.coalesces else 1
                if self.budget.take(calls, self.prices.mean_bytes, self.prices.warmer_pays(), lost):
                    batch.append((wish, lost))
                    left = min(left, wish.unless_left)
                else:
                    self._refuse(wish, "exceeds the budget")
            if not batch:
                break
            begun += len(batch)
            self._under_way += 1
            if self._workers is None:
                self._warm(batch, left)
            else:
                self._workers.submit(self._warm, batch, left)
        return begun

    def _refuse(self, wish: Wish, why: str) -> None:
        self._wished.discard(wish.key)
        self.ledger.add(wish.strategy, unaffordable=1)
        self._explained.append((wish, why))

    # -- doing ----------------------------------------------------------------------------

    def _warm(self, batch: list[tuple[Wish, float]], unless_left: float) -> None:
        """Runs in a worker: one call of the origin."""
        outcome: Refreshed | None = None
        try:
            before = self.prices.usage()
            olds = {wish.key: self.shelf.life(wish.key) for wish, _ in batch}
            with self._slots:
                outcome = self.store.refresh_many(
                    [wish.key for wish, _ in batch], unless_left=unless_left
                )
            self.prices.warmed(outcome, before, self.prices.usage(), alone=self._under_way == 1)
        except ClosedError:
            pass
        except Exception as error:  # such as a disk that fails
            log.warning("warming failed: %s", raised_by(error))
            self._back_off()
        with self._lock:
            self._under_way -= 1
            if outcome is not None:
                self._book(batch, outcome, olds)
            if self._workers is not None and self._waiting and not self._closed:
                self._fulfil(self._clock())

    def _back_off(self) -> None:
        with self._lock:
            self._pause = min(2 * self._pause or _FIRST_PAUSE, _LONGEST_PAUSE)
            self._quiet_until = self._clock() + self._pause

    def _book(
        self, batch: list[tuple[Wish, float]], outcome: Refreshed, olds: dict[Any, Life | None]
    ) -> None:
        now = self._clock()
        asked = len(outcome.loaded) + len(outcome.not_modified) + len(outcome.missing)
        asked += len(outcome.failed)
        if outcome.failed and len(outcome.failed) == asked:
            self._back_off()
        elif asked:
            self._pause = 0.0
        loaded, renewed = set(outcome.loaded), set(outcome.not_modified)
        promoted, fresh = set(outcome.promoted), set(outcome.fresh)
        each = outcome.seconds / (asked or 1)
        expected = self.prices.last_expected
        for wish, lost in batch:
            key = wish.key
            came = key in loaded or key in renewed
            paid = self.prices.paid_for(key in renewed) if came else 0.0
            self.budget.charge(cost=paid - expected)
            is_call = came or key in outcome.failed or key in outcome.missing
            self.ledger.add(
                wish.strategy,
                warmed=came or key in promoted,
                promoted=key in promoted,
                failed=key in outcome.failed or key in outcome.missing,
                calls=is_call and (not self.prices.coalesces or wish is batch[0][0]),
                not_modified=key in renewed,
                quota=paid,
                bytes=self.prices.mean_bytes if came else 0,
                seconds=each if is_call else 0.0,
            )
            if key in promoted or key in fresh:
                self._hear(Heard.LOADED, key, now)
            if not (came or key in promoted):
                self.budget.settle(-lost)
                self._explained.append((wish, "left alone: loaded elsewhere, fresh or missing"))
                continue
            self._explained.append((wish, "warmed"))
            life = self.shelf.life(key)
            until = now + 86_400.0 if life is None or life.left is None else now + life.left
            if wish.horizon is not None:
                until = min(until, now + wish.horizon)
            price = paid if wish.extra is None else lost
            spared = self.prices.seconds_of(key)
            fates = self.ledger.await_fate(
                key,
                Warmed(
                    wish.strategy,
                    0 if life is None else life.uses,
                    now + (old.left or 0.0 if (old := olds[key]) is not None else 0.0),
                    until,
                    spared,
                    lost if wish.extra is None else 0.0,
                    price if wish.extra is None else 0.0,
                ),
            )
            for fate in fates:
                self._resolve(fate, now)

    # -- the thread -----------------------------------------------------------------------

    def _next_round(self) -> None:
        now = self._clock()
        if self._prompt and 0 <= now - self._stepped_at < self._tick:
            self.glance(now)
        else:
            self._stepped_at = now
            self.step(now)

    def _wait(self) -> bool:
        """Wait for the next round; False when there is none."""
        with self._lock:
            if self._closed or self.store._engine.closed:
                return False
            due = [at for strategy in self.strategies if (at := strategy.next_at()) is not None]
            pause = PROMPT if self._prompt else self._tick
            pause = min([pause, *(max(0.01, at - self._clock()) for at in due)])
            if self._waiting and self._under_way < self._most_at_once:
                pause = min(pause, max(0.01, self._quiet_until - self._clock()))
            self._wake.wait(pause)
            return not self._closed


def _tell(listener: ref[Warmer], event: Event) -> None:
    warmer = listener()
    if warmer is not None:
        warmer._inbox.append(event)


def _run(listener: ref[Warmer], wake: Condition) -> None:
    while True:
        warmer = listener()
        if warmer is None or not warmer._wait():
            return
        try:
            warmer._next_round()
        except ClosedError:
            return
        except Exception as error:  # a strategy of the user's own must not end warming
            log.warning("a round of warming failed: %s", raised_by(error))
        del warmer
