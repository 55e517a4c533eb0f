"""What a warming strategy is: it hears of demand, and wishes for keys."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hybridcore.warming.shelf import Shelf


class Heard(Enum):
    """What is told of a key."""

    DEMAND = "demand"
    """A reader asked for it and memory did not have it, or had it because it was warmed."""
    LOADED = "loaded"
    """It is fresh anew, whoever loaded or stored it."""
    GONE = "gone"


class Wish(NamedTuple):
    """A key that a strategy would have warmed, and why it thinks that is worth it."""

    key: Any
    strategy: str
    probability: float = 1.0
    """That a reader asks for it before it is over, and would have missed."""
    extra: float | None = None
    """The share of a load that is spent beyond what readers would; None: all if it is in vain."""
    unless_left: float = 0.0
    """Seconds of freshness left at which it needs no warming."""
    horizon: float | None = None
    """Seconds after which it counts as wasted; None: when it expires."""
    reason: str = ""


class WarmingStrategy(Protocol):
    """The face of a strategy; called by one thread at a time, never on a hit."""

    name: str

    def hear(self, what: Heard, key: Any, now: float, shelf: Shelf) -> None:
        """Learn of one event; cheap."""

    def wishes(self, now: float, shelf: Shelf) -> Iterable[Wish]:
        """What to warm now."""

    def next_at(self) -> float | None:
        """When it next has a wish, if it knows."""

    def resolved(self, key: Any, is_hit: bool) -> None:
        """A key it wished for was warmed, and this is what became of it."""

    @property
    def is_on(self) -> bool:
        """Whether its wishes are to be fulfilled."""
