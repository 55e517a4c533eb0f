"""What origins share that stand before another one: all but its calls is the other's affair."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from hybridcore.origins.base import Origin

if TYPE_CHECKING:
    from hybridcore.stats import OriginUsage
    from hybridcore.types import Validators

K = TypeVar("K")
V = TypeVar("V")


class StandingBefore(Origin[K, V]):
    """An origin whose calls, which a subclass overrides, go to another; closed with it."""

    def __init__(self, origin: Origin[K, V]) -> None:
        self.origin = origin
        self.name = origin.name
        self.parallel = origin.parallel
        self.takes_entries = origin.takes_entries

    @property
    def writable(self) -> bool:
        return self.origin.writable

    @property
    def compares(self) -> bool:
        return self.origin.compares

    def does_many(self, method: str) -> bool:
        return self.origin.does_many(method)

    def started_from(self, key: K, held: Validators | None) -> None:
        self.origin.started_from(key, held)

    def usage(self) -> OriginUsage | None:
        return self.origin.usage()

    def close(self) -> None:
        self.origin.close()

    async def aclose(self) -> None:
        await self.origin.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.origin!r})"
