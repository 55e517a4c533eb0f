"""The engine: decides what a hybrid cache does, and never waits.

An operation is a generator. It works on the tiers by itself, and wherever it would have to wait
(for the origin, for somebody else's load) it yields an `Effect` and is resumed with the outcome.
The two faces differ only in how they carry an effect out: `hybrid` blocks, `aio` awaits.

    effects    what an operation asks of the face that carries it out
    base       the state that the parts share
    loads      how the origin is asked, and what becomes of its answers
    reads      who leads a load, who follows, and who is served a copy meanwhile
    writes     the tiers, and what the strategy says of the origin
    refreshes  loads that nobody waits for
    statistics how it fares
    evictions  what the tiers remove by themselves, told to who listens
    health     what is wrong with it
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybridcore.engine.effects import Call, Effect, Pause, Spawn, Steps, Wait
from hybridcore.engine.health import Healthy
from hybridcore.engine.refreshes import Refreshes
from hybridcore.origins import CallableOrigin
from hybridcore.origins.callable import settled

if TYPE_CHECKING:
    from collections.abc import Callable


class Engine(Refreshes, Healthy):
    """The rules between the tiers and the origin, all of them."""

    def straighten(self) -> None:
        """Open the straight way as far as nothing of this cache turns off it, or shut it."""
        if self.straight is None:
            return
        if self.closed or self.features.restricted or self.listener is not None:
            self.straight.shut()
            return
        guard, origin = self.guard, self.origin
        if (self.rules.defaults.strategy or self.strategy) == "cache_aside":
            origin = None
        function = afunction = resolve = None
        if type(origin) is CallableOrigin:
            function, afunction, resolve = origin.sync_function, origin.async_function, settled
        loads = (
            self.queue is None
            and self.loaders is None
            and self.ttls is None
            and not self.spill
            and (guard is None or (guard.gate is None and guard.retry is None))
        )
        calls = None if guard is None else guard.calls
        self.straight.open(loads, origin, function, afunction, resolve, guard, calls)

    def close(self) -> None:
        """Stop answering, write what is queued, and close the disk tier."""
        if self.queue is not None:
            self.queue.close()
        for attached in self.attached:
            attached.close()
        self.events.close()
        self.closed = True
        self.straighten()
        self.window._detach()
        front = self._front()
        if front is not None:
            front._detach()
        self.coherence.close()
        if self.tiers.disk is not None:
            self.tiers.disk.close()

    def load_by(self, pattern: Any, many: bool) -> Callable[[Any], Any]:
        """The decorator that registers a loader."""
        with self._counting:
            if self.loaders is None:
                from hybridcore.origins import Loaders

                self.loaders = self.origin = Loaders(self.origin)
                self.straighten()
        return self.loaders.register(pattern, many=many)


__all__ = ["Call", "Effect", "Engine", "Pause", "Spawn", "Steps", "Wait"]
