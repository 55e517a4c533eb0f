"""The bulkhead: so many calls of an origin at a time, and so many that wait for so long."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import TIMEOUT_MAX, Event, RLock
from typing import TYPE_CHECKING

from hybridcore.errors import BulkheadFullError, ConfigurationError
from hybridcore.forks import start_afresh_after_forks
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulkhead:
    """How many calls an origin gets at a time, threads and tasks together.

    Args:
        max_concurrent: calls at a time.
        max_wait: for which a call waits for its turn; 0: not at all.
        max_waiting: calls that wait at a time; further ones are refused at once.

    Raises:
        ConfigurationError: an option makes no sense.
    """

    max_concurrent: int = 32
    max_wait: Duration = "1s"
    max_waiting: int = 256

    def __post_init__(self) -> None:
        for name, least in (("max_concurrent", 1), ("max_waiting", 0)):
            count = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, int) or count < least:
                raise ConfigurationError(
                    f"{name} is expected to be at least {least}, got {count!r}"
                )
        object.__setattr__(self, "max_wait", seconds(self.max_wait))


class _Waiter:
    __slots__ = ("granted", "wake")

    def __init__(self, wake: Callable[[], object]) -> None:
        self.wake = wake
        self.granted = False


class Gate:
    """The places of one `Bulkhead`, granted in the order of asking.

    `enter` and `aenter` return what is to be handed to `leave`.
    """

    def __init__(self, bulkhead: Bulkhead, name: str = "origin") -> None:
        self.bulkhead = bulkhead
        self.name = name
        self._epoch = 0
        self._refused = 0
        self._waited = 0
        self.start_afresh()
        start_afresh_after_forks(self)

    def start_afresh(self) -> None:
        """Find every place free: after a fork nobody is here to leave one."""
        self._lock = RLock()  # re-entrant: the garbage collector may end a task that has a place
        self._epoch += 1
        self._free = self.bulkhead.max_concurrent  # while there are some, nobody waits
        self._waiting: OrderedDict[_Waiter, None] = OrderedDict()

    @property
    def running(self) -> int:
        """Calls that have a place."""
        return self.bulkhead.max_concurrent - self._free

    @property
    def waiting(self) -> int:
        """Calls that wait for one."""
        return len(self._waiting)

    @property
    def waited(self) -> int:
        """Calls that did not get one at once."""
        return self._waited

    @property
    def refused(self) -> int:
        """Calls that did not get one at all."""
        return self._refused

    def try_enter(self) -> int | None:
        """Take a place if one is free."""
        with self._lock:
            if not self._free:
                return None
            self._free -= 1
            return self._epoch

    def enter(self, within: float = TIMEOUT_MAX) -> int:
        """Take a place, waiting for at most ``within`` seconds and no longer than ``max_wait``.

        Raises:
            BulkheadFullError: there was none.
        """
        woken = Event()
        waiter = self._queue(woken.set)
        try:
            if not waiter.granted:
                woken.wait(min(self._patience(within), TIMEOUT_MAX))
            return self._granted(waiter)
        except BaseException:
            self._give_up(waiter)
            raise

    async def aenter(self, within: float = TIMEOUT_MAX) -> int:
        """Twin of `enter`."""
        import asyncio

        loop = asyncio.get_running_loop()
        woken: asyncio.Future[None] = loop.create_future()
        waiter = self._queue(lambda: loop.call_soon_threadsafe(_set, woken))
        try:
            if not waiter.granted:
                await asyncio.wait([woken], timeout=min(self._patience(within), TIMEOUT_MAX))
            return self._granted(waiter)
        except BaseException:  # a cancellation may come after the place
            self._give_up(waiter)
            raise

    def leave(self, place: int) -> None:
        """Hand the place to the one who waited longest."""
        with self._lock:
            if place != self._epoch:
                return
            while self._waiting:
                waiter, _ = self._waiting.popitem(last=False)
                try:
                    waiter.wake()
                except RuntimeError:  # its event loop was closed
                    continue
                waiter.granted = True
                return
            self._free += 1

    def _queue(self, wake: Callable[[], object]) -> _Waiter:
        waiter = _Waiter(wake)
        with self._lock:
            if self._free:
                self._free -= 1
                waiter.granted = True
            elif len(self._waiting) < self.bulkhead.max_waiting and self.bulkhead.max_wait:
                self._waited += 1
                self._waiting[waiter] = None
            else:
                raise self._refusal()
        return waiter

    def _granted(self, waiter: _Waiter) -> int:
        with self._lock:
            if waiter.granted:
                return self._epoch
            self._waiting.pop(waiter, None)
            raise self._refusal()

    def _give_up(self, waiter: _Waiter) -> None:
        with self._lock:
            self._waiting.pop(waiter, None)
            if waiter.granted:
                self.leave(self._epoch)

    def _patience(self, within: float) -> float:
        return max(0.0, min(within, seconds(self.bulkhead.max_wait)))

    def _refusal(self) -> BulkheadFullError:
        self._refused += 1
        return BulkheadFullError(
            f"{self.name} has {self.running} calls under way and {self.waiting} that wait; "
            "raise max_concurrent, max_wait or max_waiting if it can take more"
        )


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
