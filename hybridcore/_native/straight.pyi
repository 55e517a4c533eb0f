from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

from typing_extensions import disjoint_base

from hybridcore._native.histogram import Histogram
from hybridcore._native.locks import KeyLock
from hybridcore._native.memory import MemoryStore
from hybridcore.config import EntryOptions
from hybridcore.origins import Origin
from hybridcore.tiers import Copy
from hybridcore.types import Tier
from hybridcore.write_queue.elsewhere import Moment

MISSING: Any
led_in_context: ContextVar[tuple[Flight, ...]]

@disjoint_base
class Flight:
    key: Any
    origin: Origin[Any, Any] | None
    options: EntryOptions
    copy: Copy | None
    thread: int
    is_abandoned: Callable[[], bool]
    future: Future[None] | None
    successor: Flight | None
    ended: bool
    value: Any
    tier: Tier | None
    error: Exception | None
    lost: bool
    since: int
    queued: Moment | None
    version: int | None
    met: bool
    tags: tuple[Any, ...] | None
    called_off: bool
    guard: Any
    running: bool
    def __init__(self, key: Any, origin: Any, options: Any = None, /) -> None: ...
    @property
    def waits_for(self) -> list[Flight]: ...
    @property
    def in_background(self) -> bool: ...

@disjoint_base
class Straight:
    def __init__(
        self,
        store: MemoryStore[Any, Any],
        tiers: Any,
        events: Any,
        rules: Any,
        missing: Any,
        failed: Any,
        costs: Any,
        copy_of: Callable[[Any, Any], Any],
        histogram: Callable[[str, str, str], Histogram],
        served: Callable[[Tier, Any], object] | None,
        /,
    ) -> None: ...
    def attend(self, flights: dict[Any, Flight], locks: list[KeyLock], /) -> None: ...
    def open(
        self,
        loads: bool,
        origin: Any,
        function: Callable[[Any], Any] | None,
        afunction: Callable[[Any], Any] | None,
        resolve: Callable[[Any], Any] | None,
        guard: Any,
        guarded: ContextVar[tuple[Any, ...]] | None,
        /,
    ) -> None: ...
    def shut(self) -> None: ...
    def left(self, flight: Flight, error: BaseException | None, /) -> None: ...
    def land(self, flight: Flight, answer: Any, /) -> bool: ...
    def part(self, flight: Flight, /) -> None: ...
    def took(self, flight: Flight, /) -> float: ...
    def counts(self) -> tuple[int, int]: ...
