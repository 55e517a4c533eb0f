"""The limits of a simulated GitHub: the quota of each hour, and those that it bans for."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

HOUR, MINUTE = 3600.0, 60.0


@dataclass(frozen=True, slots=True)
class Rules:
    """GitHub's documented limits.

    - ``hourly``: units an hour for who is authorised, by API; ``anonymous`` for who is not
    - ``points``, ``graphql_points``: in a minute; a read is 1, a write 5
    - ``writes_a_minute``, ``writes_an_hour``: requests that make content
    - ``concurrent``: requests at a time
    - ``ban``: seconds of refusal after one of these was exceeded
    """

    hourly: int = 5000
    anonymous: int = 60
    points: int = 900
    graphql_points: int = 2000
    writes_a_minute: int = 80
    writes_an_hour: int = 500
    concurrent: int = 100
    ban: float = 60.0


@dataclass(slots=True)
class Hour:
    """One quota."""

    limit: int
    used: int = 0
    resets_at: float = 0.0


@dataclass(slots=True)
class Account:
    """What one token, or everybody without, has spent; ``bans`` are its secondary limits."""

    rules: Rules
    authorised: bool
    hours: dict[str, Hour] = field(default_factory=dict)
    recent: dict[str, deque[tuple[float, int]]] = field(default_factory=dict)
    banned_until: float = 0.0
    bans: int = 0

    def hour(self, resource: str, now: float) -> Hour:
        """Return the quota of this hour."""
        hour = self.hours.get(resource)
        if hour is None:
            limit = self.rules.hourly if self.authorised else self.rules.anonymous
            hour = self.hours[resource] = Hour(limit)
        if now >= hour.resets_at:
            hour.used, hour.resets_at = 0, now + HOUR
        return hour

    def exceeds(self, resource: str, writes: bool, under_way: int, now: float) -> bool:
        """Count a request towards the secondary limits; True says that one was exceeded."""
        if now < self.banned_until:
            return True
        rules = self.rules
        points = rules.graphql_points if resource == "graphql" else rules.points
        over = under_way > rules.concurrent
        over |= self._is_over(resource, 5 if writes else 1, points, MINUTE, now)
        if writes:
            over |= self._is_over("minute", 1, rules.writes_a_minute, MINUTE, now)
            over |= self._is_over("hour", 1, rules.writes_an_hour, HOUR, now)
        if over:
            self.bans += 1
            self.banned_until = now + rules.ban
        return over

    def _is_over(self, name: str, points: int, limit: int, length: float, now: float) -> bool:
        recent = self.recent.setdefault(name, deque())
        recent.append((now, points))
        while recent[0][0] <= now - length:
            recent.popleft()
        return sum(points for _, points in recent) > limit

    def headers(self, resource: str, now: float) -> dict[str, str]:
        """Return the headers that tell of the quota."""
        hour = self.hour(resource, now)
        return {
            "X-RateLimit-Limit": str(hour.limit),
            "X-RateLimit-Remaining": str(max(0, hour.limit - hour.used)),
            "X-RateLimit-Used": str(hour.used),
            "X-RateLimit-Reset": str(int(hour.resets_at)),
            "X-RateLimit-Resource": resource,
        }

    def overview(self, now: float) -> dict[str, Any]:
        """Return what ``/rate_limit`` answers."""
        resources = {}
        for name in ("core", "graphql", "search"):
            hour = self.hour(name, now)
            resources[name] = {
                "limit": hour.limit,
                "used": hour.used,
                "remaining": max(0, hour.limit - hour.used),
                "reset": int(hour.resets_at),
            }
        return {"resources": resources, "rate": resources["core"]}
