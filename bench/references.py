"""Policies as plainly as they can be written: LRU, FIFO, GreedyDual-Size-Frequency, Belady's MIN.

Each is a function of the requests and the capacity that returns the positions that missed.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np


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


def greedy_dual(requests: Requests, capacity: int) -> list[int]:
    """GreedyDual-Size-Frequency with costs: drops the least of base + frequency x cost / size.

    The base is the priority of what was dropped last, so that what is not used any more ages
    (Cao and Irani 1997, Cherkasova 1998). An entry costs what its last miss cost.
    """
    held: dict[int, tuple[float, int, float, int]] = {}  # priority, frequency, worth, size
    heap: list[tuple[float, int]] = []  # holds outdated priorities, too
    base, free = 0.0, capacity
    missed = []
    for i, (key, size) in enumerate(zip(requests.keys, requests.sizes, strict=True)):
        if key in held:
            _, frequency, worth, size = held[key]
        else:
            missed.append(i)
            if size > capacity:
                continue
            frequency, worth = 0, requests.costs[i] / size
            while free < size:
                priority, victim = heappop(heap)
                if victim in held and held[victim][0] == priority:
                    free += held.pop(victim)[3]
                    base = priority
            free -= size
        priority = base + (frequency + 1) * worth
        held[key] = priority, frequency + 1, worth, size
        heappush(heap, (priority, key))
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
