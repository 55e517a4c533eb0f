"""Requests made up for tests of eviction, and how a cache does with them."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hybridcore import Cache


def popular(keys: int, count: int, skew: float = 0.8, seed: int = 1) -> list[int]:
    """Keys from 0 up, each the less likely the higher it is."""
    weights = list(itertools.accumulate((key + 1) ** -skew for key in range(keys)))
    return random.Random(seed).choices(range(keys), cum_weights=weights, k=count)


def with_scans(requests: list[int], every: int) -> list[int]:
    """The requests, after so many of them each time as many keys that never come again."""
    fresh = itertools.count(10**9)
    parts = (requests[i : i + every] for i in range(0, len(requests), every))
    return [key for part in parts for key in (*part, *itertools.islice(fresh, every))]


def replay(cache: Cache[Any, Any], requests: Iterable[Any], **options: Callable[[Any], Any]) -> int:
    """Look every key up and store the missing ones; return the hits.

    Options of `put` are given as functions of the key.
    """
    hits = 0
    for key in requests:
        if cache.get(key) is None:
            cache.put(key, key, **{name: option(key) for name, option in options.items()})
        else:
            hits += 1
    return hits
