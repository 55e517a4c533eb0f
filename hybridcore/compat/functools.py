"""`functools` with a faster ``lru_cache`` and ``cache``; everything else is functools' own.

>>> from hybridcore.compat import functools
>>> @functools.cache
... def double(x):
...     return 2 * x
>>> double(4), functools.partial(double, 5)()
(8, 10)
"""

from __future__ import annotations

import functools as _functools
from functools import (  # cached_property, too: its hit is a look into the instance's __dict__
    WRAPPER_ASSIGNMENTS,
    WRAPPER_UPDATES,
    cached_property,
    cmp_to_key,
    partial,
    partialmethod,
    reduce,
    singledispatch,
    singledispatchmethod,
    total_ordering,
    update_wrapper,
    wraps,
)
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from hybridcore.decorators import lru_cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore.decorators import Cached

P = ParamSpec("P")
R = TypeVar("R")

__all__ = [
    "WRAPPER_ASSIGNMENTS",
    "WRAPPER_UPDATES",
    "cache",
    "cached_property",
    "cmp_to_key",
    "lru_cache",
    "partial",
    "partialmethod",
    "reduce",
    "singledispatch",
    "singledispatchmethod",
    "total_ordering",
    "update_wrapper",
    "wraps",
]


def cache(user_function: Callable[P, R], /) -> Cached[P, R]:
    """Keep every result: ``lru_cache(maxsize=None)``."""
    return lru_cache(maxsize=None)(user_function)


def __getattr__(name: str) -> Any:
    return getattr(_functools, name)  # what other versions of Python have in it
