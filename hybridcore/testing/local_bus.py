"""`LocalBus`: a bus within one process that is late, repeats itself and confuses the order."""

from __future__ import annotations

import heapq
import time
from random import Random
from threading import Condition
from typing import TYPE_CHECKING

from hybridcore.invalidation.bus import START, BusError, GapError

if TYPE_CHECKING:
    from collections.abc import Sequence


class LocalBus:
    """A `hybridcore.Bus` without a server, for several caches of one process.

    Args:
        delay: seconds that a message is on its way, at most; each takes a random share of it, so
            that they arrive in another order.
        duplicates: the share of messages that arrive twice.
        seed: of what is random.
    """

    name = "local"

    def __init__(self, *, delay: float = 0.0, duplicates: float = 0.0, seed: int = 0) -> None:
        self.delay = delay
        self.duplicates = duplicates
        self.is_down = False
        """While True, every call raises `BusError`."""
        self._random = Random(seed)
        self._changed = Condition()
        self._under_way: list[tuple[float, int, bytes]] = []
        self._arrived: list[bytes] = []
        self._first = 0  # position of what arrived first and is still there
        self._lost = 0
        self._sent = self._closings = 0

    def join(self) -> str:
        with self._changed:
            self._check()
            self._arrived.append(START)
            return str(self._end)

    def publish(self, contents: Sequence[bytes]) -> str:
        with self._changed:
            self._check()
            for content in contents:
                for _ in range(1 + (self._random.random() < self.duplicates)):
                    due = time.monotonic() + self.delay * self._random.random()
                    heapq.heappush(self._under_way, (due, self._sent, content))
                    self._sent += 1
            self._changed.notify_all()
            return f"sent {self._sent}"

    def receive(self, position: str, seconds: float) -> list[tuple[str, bytes]]:
        until = time.monotonic() + seconds
        with self._changed:
            closings = self._closings
            while True:
                self._check()
                now = time.monotonic()
                while self._under_way and self._under_way[0][0] <= now:
                    self._arrived.append(heapq.heappop(self._under_way)[2])
                after = int(position)
                if after < self._first:
                    raise GapError("the bus no longer has what came after that")
                if after < self._end or now >= until or closings != self._closings:
                    found = self._arrived[after - self._first :]
                    return [(str(after + n), content) for n, content in enumerate(found, 1)]
                due = self._under_way[0][0] if self._under_way else until
                self._changed.wait(max(0.0, min(due, until) - now))

    def has_lost(self, position: str) -> bool:
        self._check()
        return int(position.removeprefix("sent ")) <= self._lost

    def trim(self) -> None:
        """Forget all that has arrived, as a stream does that is too long."""
        with self._changed:
            self._first = self._end
            self._arrived.clear()

    def lose(self) -> None:
        """Lose what is under way, as a server that crashes."""
        with self._changed:
            self._under_way.clear()
            self._lost = self._sent

    def hurry(self) -> None:
        """Have what is under way arrive now."""
        with self._changed:
            self._under_way = [(0.0, number, content) for _, number, content in self._under_way]
            heapq.heapify(self._under_way)
            self._changed.notify_all()

    def close(self) -> None:
        """Have nobody wait any longer; others may go on to use it."""
        with self._changed:
            self._closings += 1
            self._changed.notify_all()

    @property
    def _end(self) -> int:
        return self._first + len(self._arrived)

    def _check(self) -> None:
        if self.is_down:
            raise BusError("the bus is down")
