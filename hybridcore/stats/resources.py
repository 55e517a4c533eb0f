"""What a cache takes: memory, disk, network, time of the processor."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

from hybridcore._native import footprint_of
from hybridcore.stats.counted import Counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybridcore._native import MemoryStore
    from hybridcore.stats.tiers import DiskStats, OriginUsage

_SAMPLE = 64
"""Entries of memory that are measured; they stand for the others."""
_PATIENCE = 0.0005
"""Seconds after which no more of them are."""


@dataclass(frozen=True, slots=True)
class Resources(Counted):
    """What the cache takes, and its process, of now; what counts on, since they were made.

    - ``memory``: bytes by what they are for: ``"keys"`` and ``"values"``, estimated from some of
      the entries with all that they hold, and the ``"table"`` with its entries, which is exact
    - ``rss``: bytes of memory that the process has, None where it cannot be told
    - ``disk``: bytes of the ``"file"``, of its ``"pages"`` in use, and of the ``"records"`` there
    - ``bytes_in``, ``bytes_out``: over the network, by origin, where the origin counts them
    - ``cpu_seconds``: of the processor, by the whole process
    - ``own_seconds``: that lookups and writes in memory and on disk took on the clock on the wall;
      of the processor the cache itself took at most that
    - ``seconds``: that these counts are about
    """

    STATES = frozenset({"memory", "rss", "disk"})

    memory: Mapping[str, int]
    rss: int | None
    disk: Mapping[str, int]
    bytes_in: Mapping[str, int]
    bytes_out: Mapping[str, int]
    cpu_seconds: float
    own_seconds: float
    seconds: float

    @property
    def cpu_utilization(self) -> float:
        """Processors that the process kept busy, of one snapshot of the time since it was made."""
        return self.cpu_seconds / self.seconds if self.seconds > 0 else 0.0


def measure(
    memory: MemoryStore[Any, Any] | None,
    disk: DiskStats | None,
    usage: Mapping[str, OriginUsage | None],
    cpu_seconds: float,
    own_seconds: float,
    seconds: float,
) -> Resources:
    """Measure them now; below a millisecond."""
    known = {name: used for name, used in usage.items() if used is not None}
    return Resources(
        memory={} if memory is None else memory_bytes(memory),
        rss=resident_bytes(),
        disk={}
        if disk is None
        else {"file": disk.file_bytes, "pages": disk.used_bytes, "records": disk.live_bytes},
        bytes_in={name: used.bytes_in for name, used in known.items()},
        bytes_out={name: used.bytes_out for name, used in known.items()},
        cpu_seconds=process_time() - cpu_seconds,
        own_seconds=own_seconds,
        seconds=seconds,
    )


def memory_bytes(memory: MemoryStore[Any, Any]) -> dict[str, int]:
    """Bytes that the entries take by what they are for."""
    keys = values = seen = 0
    until = perf_counter() + _PATIENCE
    try:
        for key, value in islice(memory.iterate(2), _SAMPLE):
            keys += footprint_of(key)
            values += footprint_of(value)
            seen += 1
            if perf_counter() > until:
                break
    except Exception:  # entries come and go, or one cannot be measured: there are others
        seen = max(seen, 1)
    entries = len(memory)
    each = entries / max(seen, 1)
    if memory.options()[5] and keys + values:  # it estimates sizes itself
        each = memory.currsize / (keys + values)
    return {
        "keys": int(keys * each),
        "values": int(values * each),
        "table": memory.memory_bytes(),
    }


def resident_bytes() -> int | None:
    """Bytes of memory that the process has now."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None
