"""The clients of one service: one for the threads of a process, one for each event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from typing import TYPE_CHECKING, Generic, TypeVar
from weakref import WeakKeyDictionary

from hybridcore.errors import ClosedError
from hybridcore.origins.threads import running_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

S = TypeVar("S")
A = TypeVar("A")

CLOSING = 5.0
"""Seconds that `Clients.close` waits for event loops that run."""


class Clients(Generic[S, A]):
    """Makes clients when they are first needed, and closes them all.

    A forked child makes its own; it leaves those of its parent alone.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], S],
        amake: Callable[[], A],
        close: Callable[[S], object],
        aclose: Callable[[A], Coroutine[object, object, object]],
    ) -> None:
        self._name = name
        self._make, self._amake = make, amake
        self._close, self._aclose = close, aclose
        self._closed = False
        self._processes: dict[int, _Process[S, A]] = {}

    def here(self) -> S:
        """The client of the threads of this process.

        Raises:
            ClosedError: `close` was called.
        """
        process = self._process()
        with process.lock:
            self._require_open()
            if process.client is None:
                process.client = self._make()
            return process.client

    def of_loop(self) -> A:
        """The client of the event loop that runs; raises as `here` does."""
        loop = asyncio.get_running_loop()
        process = self._process()
        with process.lock:
            self._require_open()
            client = process.async_clients.get(loop)
            if client is None:
                process.async_clients[loop] = client = self._amake()
            return client

    def close(self) -> None:
        """Close what this process made; harmless when called twice."""
        self._closed = True
        process = self._process()
        with process.lock:
            client, process.client = process.client, None
            others = dict(process.async_clients)
            process.async_clients.clear()
        if client is not None:
            self._close(client)
        closing = [
            asyncio.run_coroutine_threadsafe(self._aclose(other), loop)
            for loop, other in others.items()
            if loop.is_running()
        ]
        if running_loop() is None:
            concurrent.futures.wait(closing, timeout=CLOSING)

    async def aclose(self) -> None:
        """Twin of `close`; on the loop that runs nothing is left open."""
        process = self._process()
        with process.lock:
            client = process.async_clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await self._aclose(client)
        self.close()

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError(f"{self._name} is closed")

    def _process(self) -> _Process[S, A]:
        process = self._processes.get(os.getpid())
        return process or self._processes.setdefault(os.getpid(), _Process())


class _Process(Generic[S, A]):
    """What a forked child must not share with its parent: sockets and their lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.client: S | None = None
        self.async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, A] = WeakKeyDictionary()
