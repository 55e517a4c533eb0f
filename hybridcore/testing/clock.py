"""Time that stands still until a test advances it."""

from __future__ import annotations

from threading import Lock


class SimulatedClock:
    """One clock for everything that takes one: tiers, breakers, origins that fail on purpose.

    ``now`` is the time in seconds, to be read and advanced. Threads may share it.

    >>> clock = SimulatedClock()
    >>> clock.now += 5
    >>> clock.seconds()
    1005.0
    """

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self._lock = Lock()

    def seconds(self) -> float:
        """What ``timer=`` and ``Breaker(clock=)`` take."""
        return self.now

    def nanoseconds(self) -> int:
        """What ``Lmdb(clock=)`` takes."""
        return 1_700_000_000_000_000_000 + int(self.now * 1e9)

    def sleep(self, seconds: float) -> None:
        """Let so much time pass, at once."""
        with self._lock:
            self.now += seconds
