"""What GitHub allows an origin, and who has to wait so that it is kept."""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

from hybridcore.errors import ConfigurationError, OriginUnavailableError
from hybridcore.forks import start_afresh_after_forks

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from hybridcore.origins.http_rules import Reply, Request
    from hybridcore.origins.usage import Meter

READ_POINTS, WRITE_POINTS = 1, 5
"""Points that a request counts towards the secondary limit of its API."""

CROWDED = 0.05
"""Seconds between two looks at whether there is a place among the concurrent requests."""

RESET_SLACK = 1.0
"""Seconds after the reset at which the quota is asked for again: its clock is not ours."""


@dataclass(frozen=True, slots=True)
class Limits:
    """GitHub's secondary limits, each a little below what it documents.

    - ``points``: of REST requests in 60 seconds, of 900
    - ``graphql_points``: of GraphQL requests in 60 seconds, of 2,000
    - ``writes_a_minute``, ``writes_an_hour``: requests that make content, of 80 and 500
    - ``concurrent``: requests at a time, of 100
    """

    points: int = 850
    graphql_points: int = 1900
    writes_a_minute: int = 75
    writes_an_hour: int = 475
    concurrent: int = 90


class _Window:
    """The points of the requests of the last so many seconds; O(1) each."""

    def __init__(self, limit: int, length: float) -> None:
        self.limit, self.length = limit, length
        self._sent: deque[tuple[float, int]] = deque()
        self._points = 0

    def wait(self, points: int, now: float) -> float:
        """Return the seconds until so many points more fit."""
        while self._sent and self._sent[0][0] <= now - self.length:
            self._points -= self._sent.popleft()[1]
        over = self._points + points - self.limit
        for at, gone in self._sent if over > 0 else ():
            over -= gone
            if over <= 0:
                return at + self.length - now
        return 0.0

    def add(self, points: int, now: float) -> None:
        self._sent.append((now, points))
        self._points += points


@dataclass(slots=True)
class _Primary:
    """What is known of the hourly quota of one of GitHub's APIs."""

    limit: int = 0
    left: int | None = None
    resets_at: float = 0.0
    in_flight: int = 0
    is_told: bool = True
    """Whether replies tell of it, as those of GitHub do, and not of every server with its API."""


class Quota:
    """Keeps one origin within GitHub's limits: the hourly one, and those that it bans for.

    Safe for threads and event loops; one for all of them, as they share the token. Processes
    share what GitHub says of the hour's quota in each reply. Requests under way count as if they
    were spent, and the first one goes alone, so that the ``reserve`` is kept free however many
    there are at a time.

    Args:
        reserve: of the hourly quota, in units or as a share below 1.
        limits: the secondary ones.
        meter: is told of what was spent and what is left.

    Raises:
        ConfigurationError: the reserve is below 0.
    """

    def __init__(self, meter: Meter, reserve: float = 0, limits: Limits | None = None) -> None:
        if not reserve >= 0:
            raise ConfigurationError(
                f"reserve is expected to be units, or a share below 1, got {reserve!r}"
            )
        self._meter = meter
        self._reserve = reserve
        self._limits = limits or Limits()
        self.start_afresh()
        start_afresh_after_forks(self)

    def start_afresh(self) -> None:
        """Forget the requests under way: after a fork they are the parent's."""
        self._lock = Lock()
        limits = self._limits
        self._primary = {"core": _Primary(), "graphql": _Primary()}
        self._reads = {
            "core": _Window(limits.points, 60.0),
            "graphql": _Window(limits.graphql_points, 60.0),
        }
        self._writes = (
            _Window(limits.writes_a_minute, 60.0),
            _Window(limits.writes_an_hour, 3600.0),
        )
        self._under_way = 0

    def place(self, request: Request, max_wait: float) -> Generator[float, None, None]:
        """Yield the seconds to wait until the request may be sent, which then counts as sent.

        Raises:
            OriginUnavailableError: the quota, less its reserve, is used up, or a wait would be
                over ``max_wait``; ``retry_after`` tells for how long.
        """
        waited = 0.0
        while (wait := self._enter(request)) > 0:
            waited += wait
            if waited > max_wait:
                raise OriginUnavailableError(
                    f"{request} would have to wait {wait:.1f} s to stay within GitHub's secondary "
                    "limits",
                    retry_after=wait,
                )
            yield wait

    @contextmanager
    def under_way(self, request: Request) -> Iterator[None]:
        """What is entered with a place, and gives it up."""
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                self._primary[resource_of(request)].in_flight -= 1

    def note(self, request: Request, reply: Reply, units: float) -> None:
        """Learn from a reply what was spent (``units``) and what is left."""
        headers = reply.headers
        limit, left = _number(headers, "limit"), _number(headers, "remaining")
        resets_at = _number(headers, "reset")
        name = headers.get("x-ratelimit-resource", resource_of(request))
        with self._lock:
            primary = self._primary.setdefault(name, _Primary())
            primary.is_told = limit is not None
            if limit is not None and left is not None and resets_at is not None:
                older = primary.left is not None and resets_at < primary.resets_at
                if not older:  # replies overtake each other: of one hour the smallest counts
                    same = primary.left is not None and resets_at == primary.resets_at
                    primary.left = min(left, primary.left or 0) if same else left
                    primary.limit, primary.resets_at = limit, resets_at
            core = self._primary["core"]
        self._meter.record(calls=0, quota=units)
        if core.left is not None:
            self._meter.quota(core.left, core.resets_at)

    def left(self, resource: str = "core") -> int | None:
        """Units of the hour that may still be spent without the reserve; None: not known yet."""
        with self._lock:
            primary = self._primary[resource]
            if primary.left is None or time.time() > primary.resets_at + RESET_SLACK:
                return None
            return max(0, primary.left - primary.in_flight - self._kept(primary))

    def _kept(self, primary: _Primary) -> int:
        return int(self._reserve * primary.limit if self._reserve < 1 else self._reserve)

    def _enter(self, request: Request) -> float:
        """Take a place, or return the seconds until it is worth another look."""
        resource, writes = resource_of(request), is_write(request)
        points = WRITE_POINTS if writes else READ_POINTS
        with self._lock:
            now = time.time()
            primary = self._primary[resource]
            if primary.left is not None and now < primary.resets_at + RESET_SLACK:
                if primary.left - primary.in_flight <= self._kept(primary):
                    wait = primary.resets_at + RESET_SLACK - now
                    raise OriginUnavailableError(
                        f"{request} is not sent: of GitHub's quota of {primary.limit} an hour "
                        f"{primary.left} are left, {self._kept(primary)} of them in reserve, for "
                        f"another {wait:.0f} s",
                        retry_after=wait,
                    )
            else:
                primary.left = None
                if self._reserve and primary.in_flight and primary.is_told:
                    return CROWDED  # the first one tells what is left
            now = time.monotonic()
            if self._under_way >= self._limits.concurrent:
                return CROWDED
            turns = [(self._reads[resource], points)]
            turns += [(window, 1) for window in self._writes if writes]
            wait = max(window.wait(size, now) for window, size in turns)
            if wait > 0:
                return wait
            for window, size in turns:
                window.add(size, now)
            self._under_way += 1
            primary.in_flight += 1
        return 0.0


def resource_of(request: Request) -> str:
    """Return which of GitHub's quotas a request spends."""
    return "graphql" if request.url.endswith("/graphql") else "core"


def is_write(request: Request) -> bool:
    """Whether a request changes something."""
    return request.method not in ("GET", "HEAD") and resource_of(request) == "core"


def units_of(request: Request, reply: Reply, authorised: bool) -> float:
    """Return the units of the hourly quota that an exchange spent.

    A 304 is free for who is authorised, and so is a refusal. A GraphQL query of files has no
    connections, which makes it the cheapest there is: one point.
    """
    if (reply.status in (304, 401) and authorised) or request.url.endswith("/rate_limit"):
        return 0.0
    limited = reply.status == 429 or (
        reply.status == 403
        and ("retry-after" in reply.headers or reply.headers.get("x-ratelimit-remaining") == "0")
    )
    return 0.0 if limited else 1.0


def _number(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(f"x-ratelimit-{name}", "")
    return int(text) if text.isdecimal() and len(text) < 16 else None
