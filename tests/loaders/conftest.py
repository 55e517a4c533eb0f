"""Each test of loaders runs in both faces."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Calls a method of an origin in one of its two faces."""
    if request.param == "sync":
        yield lambda origin, method, *args: getattr(origin, method)(*args)
        return
    loop = asyncio.new_event_loop()
    yield lambda origin, method, *args: loop.run_until_complete(
        getattr(origin, f"a{method}")(*args)
    )
    loop.close()
