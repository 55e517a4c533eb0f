"""Every eviction policy whose hits are counted: caches in Python, simulated ones, and bounds.

A policy is a function ``replay(requests, capacity)`` that returns the positions of the requests
that missed. What is larger than the capacity is never stored. Packages are imported at the replay.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from bench.references import belady, greedy_dual, queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.references import Requests


@dataclass(frozen=True)
class Policy:
    """One column of the tables.

    ``peer``: another cache in Python. ``offline``: it knows the future; its replay takes the gains
    to reach for as a third argument. ``sized``: it can bound the total size of its entries.
    """

    name: str
    distribution: str | None  # None: written here
    replay: Callable[..., list[int]]
    peer: bool = False
    offline: bool = False
    sized: bool = True

    def missing(self) -> str | None:
        """The package to install first, or None if there is nothing to install."""
        if self.distribution is None or find_spec(MODULES[self.distribution]):
            return None
        return self.distribution


MODULES = {
    "hybridcore": "hybridcore",
    "libcachesim": "libcachesim",
    "cachetools": "cachetools",
    "cachebox": "cachebox",
    "lru-dict": "lru",
    "moka-py": "moka_py",
    "theine": "theine",
}


def read_through(
    requests: Requests,
    capacity: int,
    get: Callable[[int], Any],
    put: Callable[[int, int], Any],
) -> list[int]:
    """Ask for every key, and store what misses; the value is the position of the request."""
    missed = []
    for i, (key, size) in enumerate(zip(requests.keys, requests.sizes, strict=True)):
        if get(key) is None:
            missed.append(i)
            if size <= capacity:
                put(key, i)
    return missed


def sized(requests: Requests) -> bool:
    """Whether the capacity bounds a total size."""
    return any(size != 1 for size in requests.sizes)


def hybridcore(requests: Requests, capacity: int, **options: Any) -> list[int]:
    """Our own cache, told every size and cost there is."""
    from hybridcore import Cache

    sizer = requests.sizes.__getitem__ if sized(requests) else None
    cache = Cache(capacity, sizer, **options)
    put: Callable[[int, int], Any] = cache.__setitem__
    if any(cost != 1 for cost in requests.costs):
        costs = requests.costs

        def put(key: int, position: int) -> None:
            cache.put(key, position, cost=costs[position])

    return read_through(requests, capacity, cache.get, put)


def hybridcore_bytes(requests: Requests, capacity: int) -> list[int]:
    """The same, learning to hit as many bytes as it can."""
    from hybridcore import Adaptive

    return hybridcore(requests, capacity, adaptive=Adaptive(objective="byte_hit_ratio"))


def hybridcore_weights(requests: Requests, capacity: int) -> list[int]:
    """The same, learning nothing."""
    from hybridcore import Weights

    return hybridcore(requests, capacity, weights=Weights())


def mapping(requests: Requests, capacity: int, module: str, name: str) -> list[int]:
    """A cache that is used like a dict."""
    make = getattr(importlib.import_module(module), name)
    sizer: dict[str, Any] = {}
    if sized(requests):
        lookup = requests.sizes.__getitem__
        sizer["getsizeof"] = lookup if module == "cachetools" else lambda _, value: lookup(value)
    cache = make(capacity, **sizer)
    return read_through(requests, capacity, cache.get, cache.__setitem__)


def moka(requests: Requests, capacity: int) -> list[int]:
    """Moka as its users use it: it evicts later, in batches and by the clock.

    So it holds more than its capacity for a while, and hits a little more or less at each run.
    """
    from moka_py import Moka

    sizes = requests.sizes
    weigher = (lambda key, value: sizes[value]) if sized(requests) else None
    cache = Moka(capacity, weigher=weigher)
    return read_through(requests, capacity, cache.get, cache.set)


def theine(requests: Requests, capacity: int) -> list[int]:
    """Theine counts entries only."""
    from theine import Cache

    cache = Cache(capacity)
    try:
        return read_through(requests, capacity, lambda key: cache.get(key)[0], cache.set)
    finally:
        cache.close()


def simulated(requests: Requests, capacity: int, name: str) -> list[int]:
    """A policy of libCacheSim, asked request by request."""
    import libcachesim

    buckets = max(8, min(24, max(requests.keys).bit_length()))
    # Its Python wrapper adds a call to each lookup; `_cache` is the simulator itself.
    cache = getattr(libcachesim, name)(capacity, hashpower=buckets)._cache
    request = libcachesim.Request()
    request.valid = True
    request.obj_size = 1
    get, resize = cache.get, sized(requests)
    missed = []
    for i, (key, size) in enumerate(zip(requests.keys, requests.sizes, strict=True)):
        request.obj_id = key + 1
        if resize:
            request.obj_size = size
        if not get(request):
            missed.append(i)
    if cache.get_occupied_byte() > capacity:
        raise RuntimeError(f"{name} holds {cache.get_occupied_byte()} of at most {capacity}")
    return missed


OURS, BASE, BOUND = "hybridcore", "LRU", "Belady"

SIMULATED = [
    "ARC",
    "Cacheus",
    "Clock",
    "Clock2QPlus",
    "GDSF",
    "Hyperbolic",
    "LeCaR",
    "LFU",
    "LHD",
    "LIRS",
    "LRB",
    "LRUProb",
    "MQ",
    "Random",
    "S3FIFO",
    "Sieve",
    "SLRU",
    "ThreeLCache",
    "TwoQ",
]
"""Left out of libCacheSim: WTinyLFU, LRUK, ClockPro and LFUDA, which stray far from what they are
named for in version 0.3.5 (ClockPro fills half its space); FlashProb, which models a flash drive;
GLCache, which learns by the clock of a trace; BeladySize, which does not end where sizes are equal;
Size, which looks at nothing but sizes; LRU, FIFO and Belady, which `bench.references` has."""

POLICIES = [
    Policy(OURS, "hybridcore", hybridcore),
    Policy(f"{OURS} bytes", "hybridcore", hybridcore_bytes),
    Policy(f"{OURS} weights", "hybridcore", hybridcore_weights),
    Policy(BASE, None, partial(queue, by_use=True)),
    Policy("FIFO", None, partial(queue, by_use=False)),
    Policy("GDSF with cost", None, greedy_dual),
    Policy(BOUND, None, belady, offline=True),
    *(Policy(name, "libcachesim", partial(simulated, name=name)) for name in SIMULATED),
    *(
        Policy(
            f"{module} {kind}",
            module,
            partial(mapping, module=module, name=f"{kind}Cache"),
            peer=True,
        )
        for module in ("cachetools", "cachebox")
        for kind in ("LRU", "LFU")
    ),
    Policy("lru-dict", "lru-dict", partial(mapping, module="lru", name="LRU"), True, sized=False),
    Policy("moka", "moka-py", moka, peer=True),
    Policy("theine", "theine", theine, peer=True, sized=False),
]
