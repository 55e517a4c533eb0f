"""Evictions: what memory and disk remove by themselves, told while somebody listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakMethod

from hybridcore.events import EventKind
from hybridcore.types import Tier

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore._native import MemoryStore
    from hybridcore.disk import Lmdb
    from hybridcore.events import EventBus

_BY_ITSELF = ("size", "expired")


class Evictions:
    """Hears of what leaves the tiers as long as ``events`` wants to know, and costs nothing else.

    ``tell``, a method, is given the event; who else listens to memory is told first.
    """

    def __init__(
        self,
        events: EventBus,
        memory: MemoryStore[Any, Any] | None,
        disk: Lmdb[Any, Any] | None,
        tell: Callable[..., None],
    ) -> None:
        self._events, self._tell = events, WeakMethod(tell)
        self._memory, self._disk = memory, disk
        self._former: Callable[[Any, Any, Any], object] | None = None
        self._is_listening = False

    def follow(self) -> None:
        """Begin to listen, or end it, as is wanted now."""
        wanted = EventKind.EVICTED in self._events.wanted
        if wanted == self._is_listening:
            return
        self._is_listening = wanted
        if self._memory is not None:
            if wanted:
                self._former = self._memory.listen(self._left_memory)
            else:
                self._memory.listen(self._former)
        if self._disk is not None:
            self._disk.on_removed(self._left_disk if wanted else None)

    def _left_memory(self, key: Any, value: Any, cause: Any) -> None:
        if self._former is not None:
            self._former(key, value, cause)
        if cause in _BY_ITSELF:
            self._emit(key, Tier.MEMORY, cause.value)

    def _left_disk(self, evicted: int, expired: int) -> None:
        for count, reason in zip((evicted, expired), _BY_ITSELF, strict=True):
            if count:
                self._emit(None, Tier.DISK, reason, count)

    def _emit(self, key: Any, tier: Tier, reason: str, count: int = 1) -> None:
        tell = self._tell()
        if tell is not None:
            tell(EventKind.EVICTED, key, tier, reason=reason, count=count)
