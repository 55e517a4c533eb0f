"""The hybrid logical clock: stamps that order what happens on several hosts.

A stamp is wall-clock time in ns, moved on where that is needed for it to grow, so that what was
caused by something is stamped later than it (Kulkarni et al., "Logical Physical Clocks", 2014).
"""

from __future__ import annotations

import time
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_AHEAD = 60_000_000_000
"""ns by which a stamp of another host may be ahead; what is further is taken for an error."""


class HybridClock:
    """Stamps that never go back, and are beyond all that was received. O(1), safe for threads."""

    def __init__(self, wall: Callable[[], int] = time.time_ns) -> None:
        self._wall = wall
        self._lock = Lock()
        self._last = 0

    def stamp(self) -> int:
        """A stamp beyond all before it."""
        with self._lock:
            self._last = max(self._wall(), self._last + 1)
            return self._last

    def receive(self, stamp: int) -> bool:
        """Go beyond a stamp of another host; False if it is too far ahead to be believed."""
        with self._lock:
            if stamp > self._wall() + MOST_AHEAD:
                return False
            self._last = max(self._last, stamp)
            return True
