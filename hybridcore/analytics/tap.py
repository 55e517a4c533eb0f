"""`Tap`: hands the requests that a store has noted on to those who look at them."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from weakref import ref

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hybridcore._native import MemoryStore

EVENT = np.dtype([("time", "<i8"), ("size", "<i8"), ("hash", "<u4"), ("operation", "<u4")])
"""What the store packs; see probe.pxd."""

PATIENCE = 0.05
"""Seconds that a lookup waits for another thread at most; then what is noted meanwhile is lost."""


class Requests(NamedTuple):
    """Requests of some keys, in order, and of how many requests they are a sample.

    ``times`` are nanoseconds on the monotonic clock. Operations are 0 for a lookup, 1 for a put, 2
    for a removal; sizes those of the entries, 0 where a lookup missed. ``names`` has the keys by
    their hash, where somebody wants keys.
    """

    times: NDArray[np.int64]
    hashes: NDArray[np.uint32]
    sizes: NDArray[np.int64]
    operations: NDArray[np.uint8]
    requests: int
    lost: int
    names: dict[int, Any]


class Consumer(Protocol):
    """Who looks at requests."""

    wants_keys: bool

    @property
    def below(self) -> int:
        """Requests of keys with a hash below this are wanted; there may be others, too."""

    def take(self, requests: Requests) -> None:
        """Look at them. Called by one thread at a time."""


class Tap:
    """What a store calls when its probe is full, and who is told then."""

    def __init__(self, store: MemoryStore[Any, Any]) -> None:
        self._store = ref(store)
        self._consumers: list[Consumer] = []
        self._lock = Lock()
        self._seen = 0
        self._names: dict[int, Any] = {}

    @classmethod
    def of(cls, store: MemoryStore[Any, Any]) -> Tap:
        """The tap of a store, made when it has none."""
        found = store.prober
        return found if isinstance(found, Tap) else cls(store)

    def add(self, consumer: Consumer) -> None:
        """Have it told of what comes from now on."""
        with self._lock:
            self._hand_on()
            store = self._store()
            if store is not None and not self._consumers:
                self._seen = _lookups(store)
            self._consumers.append(consumer)
            self._open()

    def remove(self, consumer: Consumer) -> None:
        """Tell it what has come, and no more."""
        with self._lock:
            if consumer in self._consumers:
                self._hand_on()
                self._consumers.remove(consumer)
                self._open()

    def drain(self) -> None:
        """Tell everybody what has come until now."""
        with self._lock:
            self._hand_on()
            self._open()

    def __call__(self) -> None:
        """The probe is full. While another thread empties it, wait, but not for ever."""
        if self._lock.acquire(timeout=PATIENCE):
            try:
                self._hand_on()
                self._open()
            finally:
                self._lock.release()

    def _hand_on(self) -> None:
        store = self._store()
        if store is None or not self._consumers:
            return
        packed, lost = store.probed()
        lookups = _lookups(store)
        count, self._seen = lookups - self._seen, lookups
        names, self._names = self._names, {}
        events = np.frombuffer(packed, EVENT)
        requests = Requests(
            events["time"],
            np.ascontiguousarray(events["hash"]),
            np.ascontiguousarray(events["size"]),
            events["operation"].astype(np.uint8),
            count,
            lost,
            names,
        )
        for consumer in self._consumers:
            consumer.take(requests)

    def _open(self) -> None:
        """Have the store note what somebody wants."""
        store = self._store()
        if store is None:
            return
        if not self._consumers:
            store.set_probe(0, None)
            return
        keys = any(consumer.wants_keys for consumer in self._consumers)
        below = max(consumer.below for consumer in self._consumers)
        store.set_probe(below, self, self._names if keys else None)


def _lookups(store: MemoryStore[Any, Any]) -> int:
    hits, misses = store.counters()[:2]
    return hits + misses
