"""Every eviction policy whose hits are counted: caches in Python, simulated ones, and bounds.

A policy is a function ``replay(requests, capacity)`` that returns the positions of the requests
that missed. What is larger than the capacity is never stored. Packages are imported at the replay.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Requests:
    """What is replayed: for each request its key, its key's size, and what a miss costs.

    Sizes are 1 where the capacity counts entries, and costs are 1 where nobody knows them.
    ``gains`` says under each measure of success what a hit of each request is worth.
    """

    keys: list[int]
    sizes: list[int]
    costs: list[float]
    gains: dict[str, np.ndarray]


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
    "moka-py": "moka_py",
    "theine": "theine",
}


def queue(requests: Requests, capacity: int, by_use: bool) -> list[int]:
    """LRU (``by_use``) or FIFO, as plainly as they can be written."""
    held: OrderedDict[int, int] = OrderedDict()
    free = capacity
    missed = []
    for i, (key, size) in enumerate(zip(requests.keys, requests.sizes, strict=True)):
        if key in held:
            if by_use:
                held.move_to_end(key)
            continue
        missed.append(i)
        if size <= capacity:
            while free < size:
                free += held.popitem(last=False)[1]
            held[key] = size
            free -= size
    return missed


def belady(requests: Requests, capacity: int, gains: np.ndarray) -> list[int]:
    """Belady's MIN: keeps what comes soonest, and stores nothing that comes later than all held.

    No policy has more hits where all sizes and gains are equal. Otherwise it is a heuristic, no
    bound: it drops the entry with the largest (distance to its next use) x size / (gain then).
    Entries are sorted into classes of about the same size / gain, two per factor of two; the
    farthest ones of all classes are compared.

    An entry is known by the position of its next request, so what was hit needs no removal: it
    sinks to the bottom of its heap, and is gone once the top lies in the past.
    """
    sizes, total = requests.sizes, len(requests.keys)
    density = np.asarray(sizes) / gains
    classes = np.round(2 * np.log2(density)).astype(int).tolist()
    weights = density.tolist()
    farthest: defaultdict[int, list[int]] = defaultdict(list)
    held = bytearray(total)
    free = capacity
    missed = []
    for i, soon in enumerate(next_uses(requests.keys)):
        size = sizes[i]
        if held[i]:
            free += size
        else:
            missed.append(i)
        if soon == total or size > capacity:
            continue
        heappush(farthest[classes[soon]], -soon)
        held[soon] = True
        free -= size
        while free < 0:
            worst, chosen = -1.0, None
            for heap in farthest.values():
                if heap and -heap[0] <= i:
                    heap.clear()
                if heap and (-heap[0] - i) * weights[-heap[0]] > worst:
                    worst, chosen = (-heap[0] - i) * weights[-heap[0]], heap
            assert chosen is not None
            victim = -heappop(chosen)
            held[victim] = False
            free += sizes[victim]
    return missed


def next_uses(keys: list[int]) -> list[int]:
    """For each request the position of the next one for its key, len(keys) if there is none."""
    array = np.asarray(keys)
    order = np.argsort(array, kind="stable")
    found = np.full(len(array), len(array))
    again = array[order[1:]] == array[order[:-1]]
    found[order[:-1][again]] = order[1:][again]
    return found.tolist()


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


def hybridcore(requests: Requests, capacity: int) -> list[int]:
    """Our own cache, told every size and cost there is."""
    from hybridcore import Cache

    cache = Cache(capacity, getsizeof=requests.sizes.__getitem__ if sized(requests) else None)
    put: Callable[[int, int], Any] = cache.__setitem__
    if any(cost != 1 for cost in requests.costs):
        costs = requests.costs

        def put(key: int, position: int) -> None:
            cache.put(key, position, cost=costs[position])

    return read_through(requests, capacity, cache.get, put)


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
    "LRUProb",
    "MQ",
    "Random",
    "S3FIFO",
    "Sieve",
    "SLRU",
    "TwoQ",
]
"""Left out of libCacheSim: WTinyLFU, LRUK, ClockPro and LFUDA, which stray far from what they are
named for in version 0.3.5 (ClockPro fills half its space); FlashProb, which models a flash drive;
Size, which looks at nothing but sizes; LRU, FIFO and Belady, which are written above."""

POLICIES = [
    Policy(OURS, "hybridcore", hybridcore),
    Policy(BASE, None, partial(queue, by_use=True)),
    Policy("FIFO", None, partial(queue, by_use=False)),
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
    Policy("moka", "moka-py", moka, peer=True),
    Policy("theine", "theine", theine, peer=True, sized=False),
]
