"""Both faces of a guarded origin behind one driver, and what a test waits with."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 20.0
"""Seconds after which something that should have happened counts as hanging."""


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.0005)


class Face:
    """Calls methods of an origin, blocking or awaited; several at a time with `at_once`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def call(self, origin: Any, method: str, *args: Any) -> Any:
        if self.kind == "sync":
            return getattr(origin, method)(*args)
        return asyncio.run(getattr(origin, f"a{method}")(*args))

    def at_once(self, origin: Any, keys: list[Any]) -> list[Any]:
        """Load the keys, each by its own thread or task; an answer or an error for each."""
        if self.kind == "sync":
            outcomes: list[Any] = [None] * len(keys)

            def load(at: int) -> None:
                try:
                    outcomes[at] = origin.load(keys[at])
                except Exception as error:
                    outcomes[at] = error

            threads = [threading.Thread(target=load, args=(at,)) for at in range(len(keys))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE)
            return outcomes

        async def load_all() -> list[Any]:
            loads = (origin.aload(key) for key in keys)
            return await asyncio.gather(*loads, return_exceptions=True)

        return asyncio.run(load_all())


@pytest.fixture(params=["sync", "async"])
def face(request):
    return Face(request.param)


@pytest.fixture
def wait_until():
    return until
