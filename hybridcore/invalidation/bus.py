"""`Bus`: what carries invalidations from host to host, and what is said on it.

A message is an entry of a directory's log. It tells what was invalidated and no values: whoever
still wants them asks the origin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

from hybridcore.errors import HybridCoreError
from hybridcore.invalidation.log import Scope  # noqa: TC001  # msgspec looks it up

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hybridcore.invalidation.log import Entry

START = b""
"""What `Bus.join` puts on the bus: nothing is invalidated by it."""


class BusError(HybridCoreError, OSError):
    """The bus cannot be reached; what is unpublished stays in the log until it can."""


class GapError(BusError):
    """The bus no longer has all that came after a position."""


class Message(Struct, frozen=True, array_like=True):
    """An invalidation as other hosts hear of it.

    - ``host``: the directory whose log has it, ``number`` its place there: what tells duplicates
    - ``node``, ``stamp``: who did it and when, by the hybrid logical clock
    - ``scope``, ``keys``, ``tags``, ``hard``, ``cause``: as in `hybridcore.invalidation.log.Entry`
    """

    host: int
    number: int
    node: int
    stamp: int
    scope: Scope
    keys: tuple[bytes, ...] = ()
    tags: tuple[str, ...] = ()
    hard: bool = True
    cause: str = ""


_encoder = Encoder()
_decoder = Decoder(Message)


def packed(message: Message) -> bytes:
    """The message as bytes."""
    return _encoder.encode(message)


def unpacked(content: bytes) -> Message:
    """The message that these bytes are.

    Raises:
        ValueError: they are none.
    """
    return _decoder.decode(content)


def message_of(entry: Entry, host: int) -> Message:
    """What other hosts are told of an entry of the log."""
    return Message(
        host,
        entry.number,
        entry.node,
        entry.stamp,
        entry.scope,
        entry.keys,
        entry.tags,
        entry.hard,
        entry.cause,
    )


class Bus(Protocol):
    """Carries messages to everybody who receives from it, the sender included.

    All are received at least once. They may come late, twice and in another order, except that a
    *position* stands for all that was received up to it. Methods are called by several threads,
    `receive` by one. What cannot be done raises `BusError` and is tried again.
    """

    @property
    def name(self) -> str:
        """Which bus it is; a directory remembers its position under it."""

    def join(self) -> str:
        """Put `START` on the bus; returns its position."""

    def publish(self, contents: Sequence[bytes]) -> str:
        """Put these on the bus in their order; returns the position of the last one.

        After an error, any number of them may be on it.
        """

    def receive(self, position: str, seconds: float) -> list[tuple[str, bytes]]:
        """What came after a position, with the position of each; waits so long for the first.

        Raises:
            GapError: there may have been more than what is there now.
        """

    def has_lost(self, position: str) -> bool:
        """Whether what was published there is gone although nobody is sure to have received it."""

    def close(self) -> None:
        """Let go of connections."""


def close_quietly(bus: Any) -> None:
    """Close a bus, whatever state its connections are in."""
    try:
        bus.close()
    except (BusError, OSError):
        return
