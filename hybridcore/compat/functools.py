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
from functools import *  # noqa: F403  # the whole module, whatever this Python has in it
from functools import cached_property  # as it is: a hit is a look into the instance's __dict__
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore.decorators import lru_cache

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import ParamSpec

    from hybridcore.decorators import Cached

    P = ParamSpec("P")

R = TypeVar("R")

__all__ = [*_functools.__all__]  # noqa: PLE0604  # lru_cache, cache, cached_property are in it


def cache(user_function: Callable[P, R], /) -> Cached[P, R]:
    """Keep every result: ``lru_cache(maxsize=None)``."""
    return lru_cache(maxsize=None)(user_function)


def __getattr__(name: str) -> Any:
    return getattr(_functools, name)
