"""`Budget`: what warming may cost the origin, shared by all strategies."""

from __future__ import annotations

from threading import Lock
from time import time
from typing import TYPE_CHECKING

from hybridcore.errors import ConfigurationError
from hybridcore.stats import BudgetStats
from hybridcore.units import Duration, Size, seconds, size_in_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore.stats import OriginUsage

_CREDIT = 20.0
"""Quota units that may be lost before readers have spent any that a share could be taken of."""


class Budget:
    """Bounds on what is loaded that nobody asked for.

    ``calls``, ``bytes`` and ``cost`` (units of the origin's quota) are refilled evenly over
    ``per``. An origin that tells how much of its quota is left, as GitHub does, keeps ``reserve``
    of it for readers. ``overhead`` is the share by which warming may raise what readers' own
    loads spend: loads that spared a reader one cost nothing, those that were in vain do.

    >>> budget = Budget(calls=2, per="1h", clock=lambda: 0.0)
    >>> [budget.take(calls=1) for _ in range(3)]
    [True, True, False]

    Args:
        calls, bytes, cost: as many in ``per``; None: no bound.
        reserve: below 1 a share of the largest quota ever told, from 1 on units of it.
        overhead: None: no bound.
        price: the waiting that one unit of quota is worth, as a multiple of the mean load.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: a number makes no sense.
    """

    def __init__(
        self,
        calls: float | None = None,
        bytes: Size | None = None,
        cost: float | None = None,
        *,
        per: Duration = "1h",
        reserve: float = 0.2,
        overhead: float | None = 0.05,
        price: float = 1.0,
        clock: Callable[[], float] = time,
    ) -> None:
        for name, number in (
            ("calls", calls),
            ("cost", cost),
            ("reserve", reserve),
            ("overhead", overhead),
            ("price", price),
        ):
            if number is not None and (isinstance(number, bool) or not number >= 0):
                raise ConfigurationError(f"{name} is expected to be at least 0, got {number!r}")
        self._per = seconds(per)
        if not self._per:
            raise ConfigurationError('per is expected to be a duration such as "1h", got 0')
        self._limits = {
            "calls": calls,
            "bytes": None if bytes is None else float(size_in_bytes(bytes)),
            "cost": cost,
        }
        self._left = {name: limit for name, limit in self._limits.items() if limit is not None}
        self._spent = dict.fromkeys(self._limits, 0.0)
        self._reserve = reserve
        self._overhead = overhead
        self.price = price
        self._balance = _CREDIT
        self._whole = 0.0
        self._clock = clock
        self._filled = clock()
        self._lock = Lock()

    def take(self, calls: float = 1, bytes: float = 0, cost: float = 0, lost: float = 0) -> bool:
        """Spend this if all of it is there, else nothing; ``lost`` is expected to be in vain."""
        asked = {"calls": calls, "bytes": bytes, "cost": cost}
        with self._lock:
            self._refill()
            # What is asked for and is more than a full budget is let through when it is full.
            if any(
                left < min(asked[name], self._limits[name] or 0) or left <= 0 < asked[name]
                for name, left in self._left.items()
            ):
                return False
            if self._overhead is not None and lost > 0 and self._balance < lost:
                return False
            self._spend(asked)
            self._balance -= lost
            return True

    def charge(self, bytes: float = 0, cost: float = 0, calls: float = 0) -> None:
        """Count what turned out to be spent beyond what was taken, or less if negative."""
        with self._lock:
            self._spend({"calls": calls, "bytes": bytes, "cost": cost})

    def settle(self, lost: float) -> None:
        """Correct what was expected to be lost by what was; negative: it was less."""
        with self._lock:
            self._balance -= lost

    def readers_spent(self, cost: float) -> None:
        """Note what readers' own loads have cost."""
        if self._overhead:
            with self._lock:
                self._balance += self._overhead * cost

    def allows(self, usage: OriginUsage | None) -> bool:
        """Whether the quota that the origin told of is more than the reserve of readers."""
        if usage is None or usage.quota_left is None:
            return True
        with self._lock:
            self._whole = max(self._whole, usage.quota_left)
            if usage.quota_resets_at is not None and usage.quota_resets_at <= self._clock():
                return True  # filled again since it was told
            kept = self._reserve if self._reserve >= 1 else self._reserve * self._whole
            return usage.quota_left > kept

    def scarcity(self) -> float:
        """By how much the price of what is lost rises as the overhead runs out; from 1 on."""
        if self._overhead is None:
            return 1.0
        return _CREDIT / min(_CREDIT, max(self._balance, 1e-6))

    def stats(self) -> BudgetStats:
        """A snapshot."""
        with self._lock:
            self._refill()
            return BudgetStats(
                self._left.get("calls"),
                self._left.get("bytes"),
                self._left.get("cost"),
                None if self._overhead is None else self._balance,
                round(self._spent["calls"]),
                round(self._spent["bytes"]),
                self._spent["cost"],
            )

    def _spend(self, amounts: dict[str, float]) -> None:
        for name, amount in amounts.items():
            self._spent[name] += amount
            if name in self._left:
                self._left[name] -= amount

    def _refill(self) -> None:
        now = self._clock()
        passed, self._filled = max(0.0, now - self._filled), now
        for name, left in self._left.items():
            limit = self._limits[name] or 0.0
            self._left[name] = min(limit, left + limit * passed / self._per)
