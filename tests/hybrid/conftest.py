"""Both faces of a hybrid cache behind one driver, an origin that a test directs, and a clock."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import hybridcore as hc
from hybridcore.config import DEFAULTS
from hybridcore.testing import SimulatedClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PATIENCE = 20.0
"""Seconds after which something that should have happened counts as hanging."""


OPTIONS = set(DEFAULTS) - {"strategy", "conflict"}


def wait_until(condition: Callable[[], object]) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.0005)


class FailingDisk(hc.Lmdb):
    """A disk whose calls fail whenever ``fails`` says so."""

    def fails(self):
        return False

    def _maybe(self):
        if self.fails():
            raise hc.DiskError("the disk does not like it")

    def fetch_plain(self, key):
        self._maybe()
        return super().fetch_plain(key)

    def fetch_many(self, keys):
        self._maybe()
        return super().fetch_many(keys)

    def __contains__(self, key):
        self._maybe()
        return super().__contains__(key)

    def put(self, *args, **kw):
        self._maybe()
        super().put(*args, **kw)

    def offer(self, *args, **kw):
        self._maybe()
        return super().offer(*args, **kw)

    def delete(self, key, **options):
        self._maybe()
        return super().delete(key, **options)

    def clear(self):
        self._maybe()
        super().clear()


class Source(hc.Origin[Any, Any]):
    """An origin with values, versions and moods; it notes how it was asked.

    ``asked`` has every key that was loaded, ``batches`` the keys of every ``load_many``, ``held``
    the validators that came along. An exception among the values is raised.
    """

    name = "source"

    def __init__(self, values: Mapping[Any, Any] | None = None, *, etags: bool = False) -> None:
        self.values = dict(values or {})
        self.etags = etags
        self.asked: list[Any] = []
        self.batches: list[list[Any]] = []
        self.held: list[hc.Validators | None] = []
        self.stored: list[tuple[Any, Any]] = []
        self.deleted: list[Any] = []
        self.closed = 0
        self.before_load: Callable[[Any], None] = lambda key: None
        self.after_load: Callable[[Any], None] = lambda key: None
        self.before_store: Callable[[Any, Any], None] = lambda key, value: None
        self.after_store: Callable[[Any, Any], None] = lambda key, value: None
        self.before_delete: Callable[[Any], None] = lambda key: None

    def load(self, key: Any, held: hc.Validators | None = None) -> Any:
        self.asked.append(key)
        self.held.append(held)
        self.before_load(key)
        answer = self._answer(key, held)
        self.after_load(key)
        return answer

    def load_many(self, keys: Any) -> dict[Any, Any]:
        self.batches.append(list(keys))
        return super().load_many(keys)

    def _answer(self, key: Any, held: hc.Validators | None) -> Any:
        value = self.values.get(key, hc.NotFound())
        if isinstance(value, BaseException):
            raise value
        if isinstance(value, (hc.NotFound, hc.NotModified, hc.Loaded)):
            return value
        if not self.etags:
            return hc.Loaded(value)
        mark = hc.Validators(etag=repr(value))
        return hc.NotModified() if held == mark else hc.Loaded(value, validators=mark)

    def store(self, key: Any, value: Any) -> None:
        self.before_store(key, value)
        self.stored.append((key, value))
        self.values[key] = value
        self.after_store(key, value)

    def delete(self, key: Any) -> None:
        self.before_delete(key)
        self.deleted.append(key)
        self.values.pop(key, None)

    def close(self) -> None:
        self.closed += 1


class Gate:
    """Where a loader stops until a test lets it pass."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, *ignored: Any) -> None:
        self.reached.set()
        assert self.opened.wait(PATIENCE), "nobody opened the gate"

    def wait_until_reached(self) -> None:
        assert self.reached.wait(PATIENCE), "nobody came to the gate"

    def open(self) -> None:
        self.opened.set()


class Driver:
    """Calls the methods of a store in one of its two faces.

    ``drive.get(store, key)`` waits for the outcome, ``drive.start("get", store, key)`` does not:
    it returns a future. The asyncio face runs on a loop in a thread of its own.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._threads = ThreadPoolExecutor(64)
        self.complaints: list[dict[str, Any]] = []
        if kind == "async":
            self.loop = asyncio.new_event_loop()
            self.loop.set_exception_handler(lambda loop, context: self.complaints.append(context))
            self.loop.set_default_executor(ThreadPoolExecutor(64))
            self._thread = threading.Thread(target=self.loop.run_forever)
            self._thread.start()

    def start(self, method: str, store: hc.HybridCache[Any, Any], *args: Any, **kw: Any) -> Future:
        if self.kind == "sync":
            return self._threads.submit(getattr(store, method), *args, **kw)
        method = "aclose" if method == "close" else method
        return asyncio.run_coroutine_threadsafe(getattr(store.aio, method)(*args, **kw), self.loop)

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if self.kind == "sync":
            return lambda store, *args, **kw: getattr(store, method)(*args, **kw)
        return lambda *args, **kw: self.start(method, *args, **kw).result(PATIENCE)

    def function(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """The function as this face's users would write it: ``def`` or ``async def``."""
        if self.kind == "sync":
            return plain

        async def function(*args: Any) -> Any:
            await asyncio.sleep(0)
            return plain(*args)

        return function

    def close(self) -> None:
        self._threads.shutdown()
        if self.kind == "async":
            asyncio.run_coroutine_threadsafe(self._wind_up(), self.loop).result(PATIENCE)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()
        assert not self.complaints

    async def _wind_up(self) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self.loop.shutdown_default_executor()


@pytest.fixture(params=["sync", "async"])
def drive(request: pytest.FixtureRequest) -> Iterator[Driver]:
    driver = Driver(request.param)
    yield driver
    driver.close()


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock()


@pytest.fixture
def make_store(
    tmp_path: Any, clock: SimulatedClock
) -> Iterator[Callable[..., hc.HybridCache[Any, Any]]]:
    """Make stores of both tiers, unless told otherwise, on the test's clock.

    Entry options are given by name, and are those of the whole store.
    """
    made: list[hc.HybridCache[Any, Any]] = []

    def make(origin: Any = None, **options: Any) -> hc.HybridCache[Any, Any]:
        if "memory" not in options:
            options["memory"] = hc.Cache(1000, timer=clock.seconds)
        if "disk" not in options:
            options["disk"] = hc.Lmdb(tmp_path / "disk", clock=clock.nanoseconds)
        given = {name: options.pop(name) for name in set(options) & OPTIONS}
        defaults = hc.EntryOptions(**{"throttle": 0, **given})
        store = hc.HybridCache(origin=origin, defaults=defaults, **options)
        if store._engine.tiers.disk is not None:
            store._engine.tiers.disk._clock = clock.seconds
        made.append(store)
        return store

    yield make
    for store in made:
        if store.memory is not None:
            store.memory.check()
        store.close()


@contextmanager
def stopped_load(
    drive: Driver, source: Source, store: hc.HybridCache[Any, Any], key: Any
) -> Iterator[Future]:
    """A get whose origin has read the value, and answers when the block ends."""
    gate = Gate()
    source.after_load = gate
    pending = drive.start("get", store, key)
    gate.wait_until_reached()
    source.after_load = lambda key: None
    try:
        yield pending
    finally:
        gate.open()
        pending.exception(PATIENCE)


@pytest.fixture
def fast_switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)
