"""What loads take and cost, learned from those that were made."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

from hybridcore.origins import CallableOrigin

if TYPE_CHECKING:
    from hybridcore.hybrid import HybridCache
    from hybridcore.stats import OriginUsage
    from hybridcore.types import Refreshed

_FADE = 0.05


class Prices:
    """Means of time, bytes and quota per load; what a 304 costs is told by the origin's counts."""

    def __init__(self, store: HybridCache[Any, Any]) -> None:
        self._store = store
        self._lock = Lock()
        self._seconds: dict[int, float] = {}
        self.mean_seconds = 0.0
        self.mean_bytes = 0.0
        self.last_expected = 1.0
        self._unchanged = 0.0
        """How often a warmed key turns out to be what it was."""
        self._call_seconds = 0.0
        self._per_key = 1.0
        """Calls per key: less than one where the origin takes several at once."""

    @property
    def coalesces(self) -> bool:
        """Whether the origin takes several keys in one call."""
        origin = self._store._engine.origin
        if origin is None:
            return False
        if type(origin) is CallableOrigin:
            return origin._functions.get("load_many") is not None
        return origin._overrides("load_many") or origin._overrides("aload_many")

    def usage(self) -> OriginUsage | None:
        """What the origin counted, if it does."""
        origin = self._store._engine.origin
        return None if origin is None else origin.usage()

    def loaded(self, key: Any, took: float) -> None:
        """A reader's load took so long."""
        rule = id(self._store.rules.of(key))
        with self._lock:
            before = self._seconds.get(rule)
            self._seconds[rule] = took if before is None else before + _FADE * (took - before)
            mean = self.mean_seconds
            self.mean_seconds = mean + _FADE * (took - mean) if mean else took

    @property
    def call_seconds(self) -> float:
        """What a call for a batch takes, as far as is known."""
        return self._call_seconds or self.mean_seconds

    def seconds_of(self, key: Any) -> float:
        """What a load of the key takes, as far as is known."""
        return self._seconds.get(id(self._store.rules.of(key)), self.mean_seconds)

    def warmed(
        self,
        outcome: Refreshed,
        before: OriginUsage | None,
        after: OriginUsage | None,
        *,
        alone: bool,
    ) -> None:
        """A batch was warmed; the counts are about it if nothing else was under way."""
        came = len(outcome.loaded) + len(outcome.not_modified)
        if not came:
            return
        with self._lock:
            took = self._call_seconds
            self._call_seconds += _FADE * (outcome.seconds - took) if took else outcome.seconds
            share = len(outcome.not_modified) / came
            self._unchanged += _FADE * (share - self._unchanged)
            if self.coalesces:
                self._per_key += _FADE * (1 / came - self._per_key)
            if alone and before is not None and after is not None:
                each = (
                    after.bytes_in + after.bytes_out - before.bytes_in - before.bytes_out
                ) / came
                self.mean_bytes += _FADE * (each - self.mean_bytes) if self.mean_bytes else each

    def paid_for(self, not_modified: bool) -> float:
        """Quota that one warmed key cost."""
        return self._per_key * (self._for_unchanged() if not_modified else 1.0)

    def warmer_pays(self) -> float:
        """Quota that one more warmed key is expected to cost."""
        mixed = self._unchanged * self._for_unchanged() + (1 - self._unchanged)
        self.last_expected = self._per_key * mixed
        return self.last_expected

    def reader_pays(self) -> float:
        """Quota that a reader's load cost on average."""
        usage = self.usage()
        if usage is None or not usage.calls or not usage.quota_used:
            return 1.0
        return min(1.0, usage.quota_used / usage.calls)

    def _for_unchanged(self) -> float:
        """Quota of a 304: nothing, as with GitHub, where the origin's counts say so."""
        usage = self.usage()
        if usage is None or not usage.not_modified or not usage.quota_used:
            return 1.0
        charged = usage.quota_used - (usage.calls - usage.not_modified)
        return min(1.0, max(0.0, charged / usage.not_modified))
