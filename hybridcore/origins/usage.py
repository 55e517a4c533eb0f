"""What an origin counts of its own traffic: calls, failures, bytes, time, quota."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from threading import Lock

from hybridcore.forks import start_afresh_after_forks
from hybridcore.stats import OriginUsage


class Meter:
    """Counts the calls of one origin in one process; safe for threads, O(1) a call.

    A forked child starts from zero, so that the counts of all processes can be added up.
    """

    def __init__(self) -> None:
        self.start_afresh()
        start_afresh_after_forks(self)

    def start_afresh(self) -> None:
        """Start from zero."""
        self._lock = Lock()
        self._calls = self._not_modified = self._bytes_in = self._bytes_out = 0
        self._seconds = self._quota_used = 0.0
        self._quota_left: float | None = None
        self._quota_resets_at: float | None = None
        self._errors: Counter[str] = Counter()

    def record(
        self,
        seconds: float = 0.0,
        *,
        calls: int = 1,
        bytes_in: int = 0,
        bytes_out: int = 0,
        not_modified: int = 0,
        quota: float = 0.0,
        error: BaseException | None = None,
    ) -> None:
        """Count a call that took so long, by the class of its error if it failed.

        ``quota`` are the units of the origin's own quota that it spent.
        """
        with self._lock:
            self._calls += calls
            self._seconds += seconds
            self._bytes_in += bytes_in
            self._bytes_out += bytes_out
            self._not_modified += not_modified
            self._quota_used += quota
            if error is not None:
                self._errors[type(error).__name__] += 1

    def quota(self, left: float | None, resets_at: float | None = None) -> None:
        """Note what the origin said last of its quota; ``resets_at`` in seconds since the epoch."""
        with self._lock:
            self._quota_left, self._quota_resets_at = left, resets_at

    def usage(self) -> OriginUsage:
        """A snapshot."""
        with self._lock:
            return OriginUsage(
                calls=self._calls,
                not_modified=self._not_modified,
                errors=dict(self._errors),
                seconds=self._seconds,
                bytes_in=self._bytes_in,
                bytes_out=self._bytes_out,
                quota_used=self._quota_used,
                quota_left=self._quota_left,
                quota_resets_at=self._quota_resets_at,
            )


def total(
    usages: Iterable[OriginUsage | None] | Mapping[str, OriginUsage | None],
) -> OriginUsage | None:
    """Add up what several origins counted; None when none of them counts.

    Of the quotas left the smallest counts, with the time at which that one is filled again. Of a
    mapping, ``parts`` has each by its name.
    """
    parts: dict[str, OriginUsage] = {}
    if isinstance(usages, Mapping):
        parts = {name: usage for name, usage in usages.items() if usage is not None}
        usages = parts.values()
    known = [usage for usage in usages if usage is not None]
    if not known:
        return None
    errors: Counter[str] = Counter()
    for usage in known:
        errors.update(usage.errors)
    limited = [usage for usage in known if usage.quota_left is not None]
    scarcest = min(limited, key=lambda usage: usage.quota_left or 0.0, default=known[0])
    return OriginUsage(
        calls=sum(usage.calls for usage in known),
        not_modified=sum(usage.not_modified for usage in known),
        errors=dict(errors),
        seconds=sum(usage.seconds for usage in known),
        bytes_in=sum(usage.bytes_in for usage in known),
        bytes_out=sum(usage.bytes_out for usage in known),
        quota_used=sum(usage.quota_used for usage in known),
        quota_left=scarcest.quota_left,
        quota_resets_at=scarcest.quota_resets_at,
        parts=parts,
    )
