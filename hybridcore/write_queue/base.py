"""What a write-behind queue is to the engine: the seam for others than the one in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from hybridcore.stats import WriteQueueStats


@dataclass(frozen=True, slots=True)
class Operation:
    """A write that the origin has yet to take: a value, or a delete."""

    key: Any
    value: Any = field(default=None, repr=False)
    deletes: bool = False


class WriteSink(Protocol):
    """Takes writes and brings them to the origin later; the last one of a key counts.

    The ``a`` twins wait without blocking the event loop.
    """

    def put(self, key: Any, value: Any) -> None:
        """Take a value.

        Raises:
            QueueFullError: there is no room; nothing was changed.
            ClosedError: the queue was closed.
        """

    def accept(self, key: Any, value: Any) -> bool:
        """Take a value if that is done in memory at once; otherwise nothing was done.

        What is refused so is given to `put`, which waits, or tells why not.
        """

    async def aput(self, key: Any, value: Any) -> None:
        """Twin of `put`."""

    def delete(self, key: Any) -> None:
        """Take a delete; raises as `put` does."""

    async def adelete(self, key: Any) -> None:
        """Twin of `delete`."""

    def pending(self, key: Any) -> Operation | None:
        """The newest write of the key that the origin may not have yet. O(1)."""

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until the writes taken so far are written or dropped; False if it takes longer."""

    async def aflush(self, timeout: float | None = None) -> bool:
        """Twin of `flush`."""

    def close(self, timeout: float | None = None) -> bool:
        """Take no more, write what waits, and give up what is left after so many seconds.

        Returns whether nothing was left. Harmless when called twice.
        """

    async def aclose(self, timeout: float | None = None) -> bool:
        """Twin of `close`."""

    def stats(self) -> WriteQueueStats:
        """A snapshot of what was counted."""
