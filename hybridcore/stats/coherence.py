"""What was invalidated, here and elsewhere, and how far behind the others a process is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hybridcore.stats.counted import Counted

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class BusStats(Counted):
    """What was counted of a bus by this process.

    - ``published``: messages that it accepted
    - ``received``: those of other hosts; ``applied``: those that no other process had applied;
      ``duplicates``: those that were known already
    - ``gaps``: times that all entries were invalidated as nobody knew what was missed
    - ``errors``: times that the bus failed; ``connected``: whether it answered last
    - ``waiting``: entries of the log that were not published yet, and ``waited``: for how many
      seconds the oldest of them
    - ``lag``: seconds since it last answered, or by which what waits, or what came in the last
      minute, is late
    """

    STATES = frozenset({"connected", "waiting", "waited", "lag"})

    published: int
    received: int
    applied: int
    duplicates: int
    gaps: int
    errors: int
    connected: bool
    waiting: int = 0
    waited: float = 0.0
    lag: float = 0.0


@dataclass(frozen=True, slots=True)
class CoherenceStats(Counted):
    """What a process told others of, and what it followed.

    - ``told``: entries that it added to the log of invalidations
    - ``followed``: those of other processes that it applied to its memory
    - ``missed``: times that the log did not go back far enough, so that memory was emptied
    - ``barriers``: tags that were invalidated and are remembered
    - ``behind``: entries of the log that it has not looked at; it does before the next hit
    - ``buses``: to other hosts, by name
    - ``lag``: seconds for which it may have missed something: since it was last in step with the
      log, and of the buses
    """

    STATES = frozenset({"barriers", "behind", "lag"})

    told: int
    followed: int
    missed: int
    barriers: int
    behind: int
    buses: Mapping[str, BusStats]
    lag: float = 0.0
