"""The caches that are told of, each by a name; a forked child tells of itself alone."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from hybridcore.errors import ConfigurationError
from hybridcore.exporters.curves import Curves
from hybridcore.exporters.metrics import Family, families, merged
from hybridcore.logs import RateLimitedLog, raised_by

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hybridcore.stats.snapshot import HybridStats

log = RateLimitedLog(logging.getLogger("hybridcore"))


class HasStats(Protocol):
    """A hybrid cache, or what has statistics like one."""

    def stats(self) -> HybridStats:
        """A snapshot."""


class Sources:
    """Caches by name. What one counted never goes back, also when it was closed.

    A forked child has what its parent had counted, and leaves it to the parent to tell of it.
    """

    def __init__(self, caches: Mapping[str, HasStats]) -> None:
        for name, cache in caches.items():
            if not name or not callable(getattr(cache, "stats", None)):
                raise ConfigurationError(
                    f"expected names and caches, such as users=store, got {name!r}={cache!r}"
                )
        self._caches: dict[str, HasStats] = dict(caches)
        self._last: dict[str, HybridStats] = {}
        self._before: dict[str, HybridStats] = {}
        self._about_to_fork: dict[str, HybridStats] = {}
        self._lock = Lock()
        self._curves = Curves()
        _watch_forks(self)

    def stats(self) -> dict[str, HybridStats]:
        """What each counted in this process."""
        with self._lock:
            told = {}
            for name in self._caches:
                stats = self._counted(name)
                if stats is not None:
                    before = self._before.get(name)
                    told[name] = stats if before is None else stats - before
            return told

    def families(self) -> list[Family]:
        """The same as metrics."""
        told = [family for name, stats in self.stats().items() for family in families(name, stats)]
        for name, cache in self._caches.items():
            told += self._curves.families(name, cache)
        return merged(told)

    def _counted(self, name: str) -> HybridStats | None:
        try:
            self._last[name] = self._caches[name].stats()
        except Exception as error:
            log.warning(
                "no statistics of %s: %s; told as they were", name, raised_by(error), about=name
            )
        return self._last.get(name)

    def before_fork(self) -> None:
        """Note what was counted so far."""
        self._lock.acquire()
        self._about_to_fork = {
            name: stats for name in self._caches if (stats := self._counted(name)) is not None
        }

    def after_fork(self, *, in_child: bool) -> None:
        """Take what was noted off what the child counts; origins and processors begin at zero."""
        if in_child:
            self._before = {
                name: _but_what_begins_anew(stats) for name, stats in self._about_to_fork.items()
            }
            self._last = {}
            self._lock = Lock()
            log.start_afresh()
        else:
            self._lock.release()
        self._about_to_fork = {}


def _but_what_begins_anew(stats: HybridStats) -> HybridStats:
    nothing: Any = None
    return replace(stats, usage=None, resources=nothing)


_watched: WeakSet[Sources] = WeakSet()
_at_fork: list[Sources] = []


_watching = False


def _watch_forks(sources: Sources) -> None:
    global _watching
    if not _watching and hasattr(os, "register_at_fork"):
        _watching = True
        os.register_at_fork(
            before=_before_fork,
            after_in_parent=lambda: _after_fork(in_child=False),
            after_in_child=lambda: _after_fork(in_child=True),
        )
    _watched.add(sources)


def _before_fork() -> None:
    _at_fork[:] = list(_watched)
    for sources in _at_fork:
        sources.before_fork()


def _after_fork(*, in_child: bool) -> None:
    for sources in _at_fork:
        sources.after_fork(in_child=in_child)
    _at_fork.clear()
