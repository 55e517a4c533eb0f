"""The circuit breaker: leaves an origin alone that fails, and tries it again with few calls."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Literal

from hybridcore.errors import (
    BreakerOpenError,
    ConfigurationError,
    NotFoundError,
    OriginError,
    OriginTimeoutError,
    OriginUnavailableError,
)
from hybridcore.forks import start_afresh_after_forks
from hybridcore.stats import BreakerStats
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

State = Literal["closed", "open", "half_open"]
"""``closed`` lets every call through, ``open`` none, ``half_open`` a few to probe."""

Errors = tuple[type[Exception], ...]

HISTORY = 64
"""Transitions that a circuit remembers."""

PARTS = 10
"""Steps in which a window slides."""

log = logging.getLogger("hybridcore")


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """When to leave an origin alone, for how long, and what it takes to trust it again.

    ``failures`` in a row open it, or, if ``error_rate`` is given, that share of at least
    ``min_calls`` calls within ``window``. After ``open_for``, or later if the origin asked for
    more patience (``Retry-After``), up to ``probes`` calls at a time are let through:
    ``successes`` of them close it, one failure opens it again.

    Of the classes in ``failure_on`` and ``ignore``, the one nearest to the class of an error
    decides whether it is a failure or an answer like any other.

    Args:
        failures: in a row, that open it.
        open_for: until the first probe.
        successes: of probes, that close it.
        probes: under way at a time. One that takes longer than ``open_for`` is not waited for.
        error_rate: share of failures that opens it, in place of a number in a row.
        window: of time over which the rate is taken; it slides in tenths.
        min_calls: within the window, fewer of which say nothing.
        failure_on: errors that count.
        ignore: errors that do not.
        max_open_for: the longest that ``Retry-After`` keeps it open.
        clock: seconds that only go up.

    Raises:
        ConfigurationError: an option makes no sense.
    """

    failures: int = 5
    open_for: Duration = "60s"
    successes: int = 2
    probes: int = 1
    error_rate: float | None = None
    window: Duration = "60s"
    min_calls: int = 10
    failure_on: Errors = (Exception, OriginUnavailableError, OriginTimeoutError)
    ignore: Errors = (NotFoundError, OriginError)
    max_open_for: Duration = "1h"
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        for name in ("failures", "successes", "probes", "min_calls"):
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ConfigurationError(f"{name} is expected to be at least 1, got {count!r}")
        for name in ("open_for", "window", "max_open_for"):
            length = seconds(getattr(self, name))
            if length == 0:
                raise ConfigurationError(f"{name} is expected to be more than 0 seconds")
            object.__setattr__(self, name, length)
        if seconds(self.max_open_for) < seconds(self.open_for):
            raise ConfigurationError(
                f"max_open_for={self.max_open_for} is less than open_for={self.open_for}"
            )
        if self.error_rate is not None and not 0 < self.error_rate <= 1:
            raise ConfigurationError(
                f"error_rate is expected to be above 0 and at most 1, got {self.error_rate!r}"
            )
        for name in ("failure_on", "ignore"):
            object.__setattr__(self, name, error_classes(name, getattr(self, name)))

    def counts(self, error: BaseException) -> bool:
        """Whether the error is a failure of the origin."""
        for ancestor in type(error).__mro__:
            if ancestor in self.ignore:
                return False
            if ancestor in self.failure_on:
                return True
        return False


def error_classes(option: str, given: object) -> Errors:
    """Return a tuple of exception classes, of which one alone needs no tuple."""
    classes = given if isinstance(given, tuple) else (given,)
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, Exception)):
            raise ConfigurationError(f"{option} is expected to hold exception classes, got {one!r}")
    return classes


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of a circuit: ``at`` by its clock, ``time`` in seconds since the epoch."""

    before: State
    after: State
    reason: str
    at: float
    time: float


class Circuit:
    """The state of one `Breaker`: asked before each call, told how each call ended.

    Whoever got a permit from `admit` hands it to one of `succeeded`, `failed` and `abandoned`.
    What was admitted before the last transition says nothing about now and is not counted.

    Any thread and any event loop may call; nothing here waits. While it is closed and nothing
    failed, a call takes no lock, unless a rate is counted.
    """

    def __init__(self, breaker: Breaker, name: str = "origin") -> None:
        self.breaker = breaker
        self.name = name
        self._clock = breaker.clock
        self._state: State = "closed"
        self._reason = ""
        self._window = None if breaker.error_rate is None else _Window(seconds(breaker.window))
        self._generation = 0  # of the state; it is the permit
        self._failures = 0  # in a row, while closed
        self._successes = 0  # while half open
        self._probing = 0
        self._overdue_at = 0.0  # when the probes under way are not waited for any longer
        self._open_until = 0.0
        self._patience_until = float("-inf")  # what Retry-After asked for
        self._all_failures = 0
        self._rejected = 0
        self._opened = 0
        self._late = 0
        self._history: deque[Transition] = deque(maxlen=HISTORY)
        self._listeners: list[Callable[[Transition], object]] = []
        self.start_afresh()
        start_afresh_after_forks(self)

    def start_afresh(self) -> None:
        """Keep the state, but none of the probes under way: after a fork nobody ends them."""
        self._lock = RLock()  # re-entrant: the garbage collector may run anything
        self._untold: deque[Transition] = deque()
        self._telling = False
        self._generation += 1
        self._probing = 0

    # -- around a call ----------------------------------------------------------------------------

    def check(self) -> None:
        """Raise what `admit` would raise, without taking the place of a probe."""
        if self._state != "closed":
            now = self._clock()
            with self._lock:
                if not self._lets_through(now):
                    raise self._rejection(now)

    def admit(self) -> int:
        """Return a permit for one call.

        Raises:
            BreakerOpenError: the origin is to be left alone.
        """
        permit = self._generation
        if self._state == "closed":
            return permit
        now = self._clock()
        with self._lock:
            if not self._lets_through(now):
                raise self._rejection(now)
            if self._state == "open":
                self._go("half_open", "it was open for long enough", now)
            if self._state == "half_open":
                if self._probing >= self.breaker.probes:  # overdue
                    self._generation += 1
                    self._probing = 0
                self._probing += 1
                self._overdue_at = now + seconds(self.breaker.open_for)
            permit = self._generation
        self._tell()
        return permit

    def succeeded(self, permit: int) -> None:
        """Tell that the origin answered."""
        if self._state == "closed" and not self._failures and self._window is None:
            return
        now = self._clock()
        with self._lock:
            if permit != self._generation:
                return
            if self._state == "closed":
                self._failures = 0
                if self._window is not None:
                    self._window.add(now, failures=0)
            elif self._state == "half_open":
                self._probing -= 1
                self._successes += 1
                if self._successes >= self.breaker.successes:
                    self._go("closed", f"{_times(self._successes, 'probe')} succeeded", now)
        self._tell()

    def failed(self, permit: int, error: BaseException) -> None:
        """Tell that the call raised; what is no failure by the breaker's classes is an answer."""
        if not self.breaker.counts(error):
            self.succeeded(permit)
            return
        now = self._clock()
        with self._lock:
            self._all_failures += 1
            self._be_patient(error, now)
            if permit == self._generation:
                if self._state == "half_open":
                    self._open(f"a probe failed: {type(error).__name__}", now)
                elif self._state == "closed":
                    reason = self._reason_to_open(now)
                    if reason:
                        self._open(f"{reason}, the last was {type(error).__name__}", now)
        self._tell()

    def abandoned(self, permit: int) -> None:
        """Tell that nobody will know how the call ended, as when it was cancelled."""
        if self._state == "half_open":
            with self._lock:
                if permit == self._generation and self._state == "half_open":
                    self._probing -= 1

    def ended_late(self, error: BaseException | None) -> None:
        """Tell how a call ended that had already failed because it took too long.

        It is counted, and what it says about patience is heeded; it failed all the same.
        """
        now = self._clock()
        with self._lock:
            self._late += 1
            if error is not None and self.breaker.counts(error):
                self._be_patient(error, now)

    # -- by hand ----------------------------------------------------------------------------------

    def trip(self, open_for: Duration | None = None, *, reason: str = "tripped by hand") -> None:
        """Open it now, for the breaker's ``open_for`` or as told (`math.inf`: until `reset`)."""
        length = seconds(self.breaker.open_for if open_for is None else open_for)
        now = self._clock()
        with self._lock:
            self._open(reason, now, length)
        self._tell()

    def reset(self, *, reason: str = "reset by hand") -> None:
        """Close it now, and forget the failures counted so far."""
        now = self._clock()
        with self._lock:
            self._patience_until = float("-inf")
            if self._state == "closed":
                self._count_from_zero()
            else:
                self._go("closed", reason, now)
        self._tell()

    # -- to be observed ---------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The state that a call would find now."""
        with self._lock:
            if self._state == "open" and self._clock() >= self._open_until:
                return "half_open"
            return self._state

    @property
    def retry_after(self) -> float:
        """Seconds until calls are let through; 0 when they are."""
        with self._lock:
            return max(0.0, self._open_until - self._clock()) if self._state == "open" else 0.0

    @property
    def history(self) -> tuple[Transition, ...]:
        """The last 64 transitions, oldest first."""
        with self._lock:
            return tuple(self._history)

    def stats(self) -> BreakerStats:
        """A snapshot of what was counted."""
        with self._lock:
            return BreakerStats(
                state=self.state,
                retry_after=self.retry_after,
                failures=self._all_failures,
                rejected=self._rejected,
                opened=self._opened,
                late=self._late,
            )

    def on_transition(self, listener: Callable[[Transition], object]) -> Callable[[], None]:
        """Call the listener after each transition, in their order; returns what ends that.

        It runs in a thread that told of a call and holds no lock, so it may use the circuit.
        What it raises is logged.
        """
        with self._lock:
            self._listeners = [*self._listeners, listener]

        def stop() -> None:
            with self._lock:
                self._listeners = [one for one in self._listeners if one is not listener]

        return stop

    def __repr__(self) -> str:
        return f"<Circuit of {self.name}: {self.state}>"

    # -- under the lock ---------------------------------------------------------------------------

    def _lets_through(self, now: float) -> bool:
        if self._state == "open":
            return now >= self._open_until
        if self._state == "half_open":
            return self._probing < self.breaker.probes or now >= self._overdue_at
        return True

    def _rejection(self, now: float) -> BreakerOpenError:
        self._rejected += 1
        if self._state == "open":
            left = self._open_until - now
            why = f"left alone for {left:.3g} more seconds: {self._reason}"
        else:
            left = self._overdue_at - now
            why = f"being probed since {self._reason}"
        return BreakerOpenError(f"{self.name} is {why}", retry_after=left)

    def _reason_to_open(self, now: float) -> str:
        if self._window is None:
            self._failures += 1
            enough = self._failures >= self.breaker.failures
            return f"{_times(self._failures, 'failure')} in a row" if enough else ""
        self._window.add(now, failures=1)
        calls, failures = self._window.calls, self._window.failures
        assert self.breaker.error_rate is not None
        enough = calls >= self.breaker.min_calls and failures >= self.breaker.error_rate * calls
        return f"{failures} of {calls} calls failed" if enough else ""

    def _be_patient(self, error: BaseException, now: float) -> None:
        asked = getattr(error, "retry_after", None)
        if isinstance(asked, (int, float)) and asked > 0:
            until = now + min(asked, seconds(self.breaker.max_open_for))
            self._patience_until = max(self._patience_until, until)
            if self._state == "open":
                self._open_until = max(self._open_until, until)

    def _open(self, reason: str, now: float, length: float | None = None) -> None:
        if length is None:
            length = seconds(self.breaker.open_for)
        self._opened += self._state != "open"
        self._open_until = max(now + length, self._patience_until)
        self._go("open", reason, now)

    def _go(self, after: State, reason: str, now: float) -> None:
        change = Transition(self._state, after, reason, now, time.time())
        self._state, self._reason = after, reason
        self._count_from_zero()
        self._history.append(change)
        self._untold.append(change)

    def _count_from_zero(self) -> None:
        self._generation += 1
        self._failures = self._successes = self._probing = 0
        if self._window is not None:
            self._window.clear()

    # -- outside the lock -------------------------------------------------------------------------

    def _tell(self) -> None:
        """Tell of the transitions, one teller at a time, so that they keep their order."""
        while self._untold:
            with self._lock:
                if self._telling or not self._untold:
                    return  # the one who tells will find it
                self._telling = True
                change, listeners = self._untold.popleft(), self._listeners
            try:
                log.log(
                    logging.WARNING if change.after == "open" else logging.INFO,
                    "the breaker of %s is %s: %s", self.name, change.after, change.reason,
                )  # fmt: skip
                for listener in listeners:
                    try:
                        listener(change)
                    except Exception:
                        log.exception("a listener of the breaker of %s failed", self.name)
            finally:
                self._telling = False


class _Window:
    """Calls and failures of the last so many seconds, in `PARTS` that drop out one by one."""

    def __init__(self, length: float) -> None:
        self._part = length / PARTS
        self.clear()

    def clear(self) -> None:
        self._parts: deque[list[int]] = deque()  # of number, calls, failures
        self.calls = self.failures = 0

    def add(self, now: float, failures: int) -> None:
        number = int(now // self._part)
        while self._parts and self._parts[0][0] <= number - PARTS:
            _, calls, failed = self._parts.popleft()
            self.calls -= calls
            self.failures -= failed
        if not self._parts or self._parts[-1][0] < number:
            self._parts.append([number, 0, 0])
        self._parts[-1][1] += 1
        self._parts[-1][2] += failures
        self.calls += 1
        self.failures += failures


def _times(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
