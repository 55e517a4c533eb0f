"""The origin that fails on purpose: errors, hangs, delays, wrong answers, by seed and schedule."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore.errors import ConfigurationError
from hybridcore.origins.base import held_by_key
from hybridcore.origins.standing_before import StandingBefore
from hybridcore.origins.threads import making_room
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    from hybridcore.origins.base import Origin
    from hybridcore.testing.clock import SimulatedClock
    from hybridcore.types import Answer, Validators, Written

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

Latency = float | Callable[[Random], float]
"""Seconds, or what draws them: ``lambda random: random.lognormvariate(-4, 1)``."""

LOADS = frozenset({"load", "load_many"})
WRITES = frozenset({"store", "store_many", "delete", "delete_many"})


@dataclass(frozen=True, eq=False)
class Fault:
    """What befalls a share of the calls: they wait, and then fail or answer something else.

    Args:
        share: of the keys asked for or written, from 0 to 1.
        waits: so long, before anything else; ``math.inf`` is until the origin is closed.
        raises: called with the key, returns the exception; an exception class will do.
        answers: called with the key and the true answer, returns the one that is given.
        methods: that it befalls; by default loads and writes.

    Raises:
        ConfigurationError: the share is none.
    """

    share: float
    waits: Latency = 0.0
    raises: Callable[[Any], Exception] | None = None
    answers: Callable[[Any, Any], Any] | None = None
    methods: frozenset[str] = field(default=LOADS | WRITES)

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigurationError(
                f"the share of a fault is expected to be from 0 to 1, got {self.share!r}"
            )


Faults = Sequence[Fault]


class FaultyOrigin(StandingBefore[K, V]):
    """Stands before an origin and has its calls wait, fail and lie.

    At most one fault befalls a key of a call. Which one follows from the seed, the key and how
    often that key was asked for before, and not from the order in which threads come. A batch waits
    for the slowest of its keys; those that fail in it are errors of their own.

    ``faults`` may be replaced at any time, ``befallen`` counts the keys by fault, and ``release``
    ends the waits that are under way, as closing does.

    Args:
        origin: asked for what does not fail.
        faults: what may befall a call. A mapping is a schedule: from so many seconds after the
            origin was made on, these.
        latency: that every call takes.
        seed: another one is another course of events.
        repeat: after so long the schedule begins anew.
        clock: by which the schedule goes, and which the waits advance; by default it is the real
            one, and they are slept.

    Raises:
        ConfigurationError: the shares add up to more than 1, or the schedule makes no sense.
    """

    def __init__(
        self,
        origin: Origin[K, V],
        faults: Faults | Mapping[Duration, Faults] = (),
        *,
        latency: Latency = 0.0,
        seed: int = 0,
        repeat: Duration | None = None,
        clock: SimulatedClock | None = None,
    ) -> None:
        super().__init__(origin)
        self.latency = latency
        self.befallen: Counter[Fault] = Counter()
        self._seed = seed
        self._repeat = math.inf if repeat is None else seconds(repeat)
        self._clock = clock
        self._began = self._now()
        self._asked: Counter[Any] = Counter()
        self._lock = threading.Lock()
        self._released = threading.Event()
        self.faults = faults

    @property
    def faults(self) -> Faults | Mapping[Duration, Faults]:
        """What may befall a call, as it was given."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults | Mapping[Duration, Faults]) -> None:
        plan = faults if isinstance(faults, Mapping) else {0.0: faults}
        course = sorted((seconds(start), tuple(then)) for start, then in plan.items())
        if not course or course[0][0] != 0:
            raise ConfigurationError("a schedule of faults is expected to begin at 0")
        for _, then in course:
            if sum(fault.share for fault in then) > 1 + 1e-9:
                raise ConfigurationError(
                    "the shares of faults that may befall a call add up to more than 1"
                )
        self._starts = [start for start, _ in course]
        self._course = [then for _, then in course]
        self._faults = faults

    def release(self) -> None:
        """End the waits of now."""
        with self._lock:
            released, self._released = self._released, threading.Event()
        released.set()

    def load(self, key: K, held: Validators | None = None) -> Answer[V]:
        fault = self._met("load", {key: held})[key]
        _fail(key, fault)
        return _lied(key, fault, self.origin.load(key, held))

    async def aload(self, key: K, held: Validators | None = None) -> Answer[V]:
        fault = (await self._amet("load", {key: held}))[key]
        _fail(key, fault)
        return _lied(key, fault, await self.origin.aload(key, held))

    def load_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        wanted = held_by_key(keys)
        met = self._met("load_many", wanted)
        errors, rest = _parted(met, wanted)
        return errors | _lied_all(met, self.origin.load_many(rest) if rest else {})

    async def aload_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        wanted = held_by_key(keys)
        met = await self._amet("load_many", wanted)
        errors, rest = _parted(met, wanted)
        return errors | _lied_all(met, await self.origin.aload_many(rest) if rest else {})

    def store(self, key: K, value: V) -> Written[V]:
        fault = self._met("store", {key: None})[key]
        _fail(key, fault)
        return _lied(key, fault, self.origin.store(key, value))

    async def astore(self, key: K, value: V) -> Written[V]:
        fault = (await self._amet("store", {key: None}))[key]
        _fail(key, fault)
        return _lied(key, fault, await self.origin.astore(key, value))

    def store_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        errors, rest = _parted(self._met("store_many", items), items)
        return errors | (self.origin.store_many(rest) if rest else {})

    async def astore_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        errors, rest = _parted(await self._amet("store_many", items), items)
        return errors | (await self.origin.astore_many(rest) if rest else {})

    def delete(self, key: K) -> None:
        _fail(key, self._met("delete", {key: None})[key])
        self.origin.delete(key)

    async def adelete(self, key: K) -> None:
        _fail(key, (await self._amet("delete", {key: None}))[key])
        await self.origin.adelete(key)

    def delete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        wanted = dict.fromkeys(keys)
        errors, rest = _parted(self._met("delete_many", wanted), wanted)
        return errors | (self.origin.delete_many(rest) if rest else {})

    async def adelete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        wanted = dict.fromkeys(keys)
        errors, rest = _parted(await self._amet("delete_many", wanted), wanted)
        return errors | (await self.origin.adelete_many(rest) if rest else {})

    def close(self) -> None:
        self.release()
        super().close()

    async def aclose(self) -> None:
        self.release()
        await super().aclose()

    def _met(self, method: str, keys: Iterable[K]) -> dict[K, Fault | None]:
        """What befalls each key, after the wait that comes of it."""
        met, wait = self._drawn(method, keys)
        if self._clock is not None and wait != math.inf:
            self._clock.sleep(wait)
        elif wait:
            with making_room():
                self._released.wait(min(wait, threading.TIMEOUT_MAX))
        return met

    async def _amet(self, method: str, keys: Iterable[K]) -> dict[K, Fault | None]:
        import asyncio

        met, wait = self._drawn(method, keys)
        if self._clock is not None and wait != math.inf:
            self._clock.sleep(wait)
        elif wait == math.inf:
            released = self._released
            while not released.is_set():  # noqa: ASYNC110  # it is set by any thread
                await asyncio.sleep(_LOOK)
        elif wait:
            await asyncio.sleep(wait)
        return met

    def _drawn(self, method: str, keys: Iterable[K]) -> tuple[dict[K, Fault | None], float]:
        faults = self._faults_of_now()
        met: dict[K, Fault | None] = {}
        wait = 0.0
        for key in keys:
            with self._lock:
                self._asked[key] += 1
                random = Random(f"{self._seed} {key!r} {self._asked[key]}")
            fault = _befalling(faults, method, random.random())
            met[key] = fault
            takes = _drawn(self.latency, random)
            if fault is not None:
                takes += _drawn(fault.waits, random)
                with self._lock:
                    self.befallen[fault] += 1
            wait = max(wait, takes)
        return met, wait

    def _faults_of_now(self) -> Faults:
        since = math.fmod(self._now() - self._began, self._repeat)
        return self._course[bisect_right(self._starts, since) - 1]

    def _now(self) -> float:
        return time.monotonic() if self._clock is None else self._clock.seconds()


_LOOK = 0.005
"""Seconds between two looks at whether an endless wait was ended."""


def _befalling(faults: Faults, method: str, number: float) -> Fault | None:
    for fault in faults:
        if number < fault.share:
            return fault if method in fault.methods else None
        number -= fault.share
    return None


def _drawn(latency: Latency, random: Random) -> float:
    return latency(random) if callable(latency) else latency


def _fail(key: Any, fault: Fault | None) -> None:
    if fault is not None and fault.raises is not None:
        raise fault.raises(key)


def _lied(key: Any, fault: Fault | None, answer: T) -> T:
    if fault is None or fault.answers is None:
        return answer
    return fault.answers(key, answer)  # type: ignore[no-any-return]  # or no such answer at all


def _lied_all(met: Mapping[K, Fault | None], answers: Mapping[K, Any]) -> dict[K, Any]:
    return {key: _lied(key, met.get(key), answer) for key, answer in answers.items()}


def _parted(
    met: Mapping[K, Fault | None], items: Mapping[K, Any]
) -> tuple[dict[K, Any], dict[K, Any]]:
    """The errors of the keys that fail, and the others with what was given of them."""
    errors = {
        key: fault.raises(key)
        for key, fault in met.items()
        if fault is not None and fault.raises is not None
    }
    return errors, {key: item for key, item in items.items() if key not in errors}
