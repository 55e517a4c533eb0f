"""The sections a hybrid cache is configured with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from hybridcore.errors import ConfigurationError
from hybridcore.units import Duration, Size, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore.eviction import Adaptive, Weights

Strategy = Literal["read_through", "write_through", "cache_aside"]
"""What a miss and a write do to the origin.

- ``read_through``: a miss asks the origin; writes stop at the tiers
- ``write_through``: a miss asks the origin; writes reach it first, then the tiers
- ``cache_aside``: the origin is never asked by itself; the application loads and puts
"""


def check_strategy(strategy: str) -> None:
    """Raise `ConfigurationError` when there is no such strategy."""
    if strategy not in get_args(Strategy):
        raise ConfigurationError(
            f"strategy is expected to be one of {', '.join(get_args(Strategy))}, got {strategy!r}"
        )


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory tier of a hybrid cache: ``Memory(10_000)`` entries or ``Memory("256MiB")``.

    What it evicts is chosen by ``weights``, ``adaptive`` and ``low_water``, as in `Cache`.
    """

    maxsize: Size | None
    getsizeof: Callable[[Any], int] | None = None
    weights: Weights | None = None
    adaptive: Adaptive | None = None
    low_water: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryOptions:
    """How long entries live unless the call says otherwise.

    - ``ttl``: fresh for so long; None: until evicted or invalidated
    - ``stale``: kept so much longer, to be renewed with the origin or served while it fails
    """

    ttl: Duration | None = None
    stale: Duration = 0.0

    def __post_init__(self) -> None:
        if self.ttl is not None:
            object.__setattr__(self, "ttl", seconds(self.ttl))
        object.__setattr__(self, "stale", seconds(self.stale))
        if self.ttl is None and self.stale:
            raise ConfigurationError(
                f"stale={self.stale} has no meaning without a ttl: entries that never expire "
                "are never stale. Give ttl=, or leave stale out."
            )
