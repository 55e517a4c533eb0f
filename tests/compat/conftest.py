"""What the tests of `hybridcore.compat` share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.model import ManualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hybridcore.compat import cachetools


@pytest.fixture
def clock() -> ManualClock:
    """A clock that starts at 0."""
    return ManualClock()


@pytest.fixture
def checked() -> Iterator[list[cachetools.Cache]]:
    """Caches put into it are checked at the end of the test."""
    caches: list[cachetools.Cache] = []
    yield caches
    for cache in caches:
        cache._native_check()
