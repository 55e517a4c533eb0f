"""What a hybrid cache hears from outside and tells others: buses, events and their sources."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

from hybridcore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hybridcore.engine import Engine
    from hybridcore.invalidation.bus import Bus
    from hybridcore.invalidation.handlers import F, Handlers
    from hybridcore.invalidation.relay import Relay
    from hybridcore.invalidation.sources import Source
    from hybridcore.invalidation.webhook import Webhook
    from hybridcore.units import Duration, Size


class Attached(Protocol):
    """What speaks to the outside."""

    def close(self) -> None:
        """End it."""


class Outside:
    """The part of `hybridcore.HybridCache` that other hosts and systems are concerned with."""

    _engine: Engine

    def connect(self, bus: Bus) -> Relay:
        """Tell other hosts what is invalidated here, and do what they tell.

        The directory of the disk tier remembers what was told and heard: each process that has it
        open is to connect. Returns what has ``stats()``; closed, with the bus, by this cache.

        Raises:
            ConfigurationError: there is no disk tier.
        """
        engine = self._engine
        if engine.disk is None:
            raise ConfigurationError(
                "a bus needs a disk tier: its directory remembers what was told. Give disk="
            )
        from hybridcore.invalidation.coherence import SharedCoherence
        from hybridcore.invalidation.relay import Relay

        assert isinstance(engine.coherence, SharedCoherence)
        relay = Relay(engine.coherence, bus, engine.disk)
        engine.attached.append(relay)
        return relay

    def on_event(
        self, name: str, *, when: Callable[[Any], object] | None = None
    ) -> Callable[[F], F]:
        """Decorate a function that tells what an event invalidates.

        It is called with the payload and returns keys, `hybridcore.Invalidate`, or None.

        Args:
            name: of the event, or a glob such as ``"github.*"``.
            when: a function of the payload; events for which it is false are not for this one.
        """
        return self._handlers().on(name, when)

    def publish(self, name: str, payload: Any = None, *, id: str | None = None) -> bool:
        """Give an event to its functions; what they tell is invalidated when this returns.

        Args:
            id: an event that was handled with this one is not handled again.

        Returns False if it was handled before.

        Raises:
            EventError: functions failed; the others have been called.
        """
        return self._handlers().publish(name, payload, id)

    def webhook(
        self,
        *secrets: str | bytes,
        max_bytes: Size = "25MiB",
        max_age: Duration | None = "1h",
        sent_at: Callable[[Any], float | None] | None = None,
        prefix: str = "github.",
    ) -> Webhook:
        """An ASGI application that publishes the webhooks posted to it, see `Webhook`.

        Raises:
            ConfigurationError: a secret is too short, or there is none.
        """
        from hybridcore.invalidation.webhook import Webhook

        return Webhook(
            self._handlers(),
            secrets,
            max_bytes=max_bytes,
            max_age=max_age,
            sent_at=sent_at,
            prefix=prefix,
        )

    def follow(self, source: Source) -> Callable[[], None]:
        """Publish the events of a source in a thread of its own; returns what ends it."""
        from hybridcore.invalidation.sources import Following

        following = Following(source, self._handlers().publish)
        self._engine.attached.append(following)
        return following.close

    def all_keys(self) -> Iterator[Any]:
        """The keys that memory or the disk holds; those that come or go meanwhile may be missed."""
        engine = self._engine
        seen: set[Any] = set()
        if engine.memory is not None:
            seen = set(engine.memory.coldest(sys.maxsize))
            yield from seen
        if engine.disk is not None:
            for key in engine.disk:
                if key not in seen:
                    yield key

    def _handlers(self) -> Handlers:
        engine = self._engine
        if engine.handlers is None:
            from hybridcore.invalidation.handlers import Handlers

            environment = None if engine.disk is None else engine.disk._environment
            cache: Any = self
            engine.handlers = Handlers(cache, environment)
        return engine.handlers
