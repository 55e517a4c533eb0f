"""A cache that is checked when its test is over, and a clock to turn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hybridcore import Cache
from tests.model import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def make() -> Iterator[Callable[..., Cache[Any, Any]]]:
    """Make caches; every invariant of each holds at the end of the test."""
    made = []

    def make(*args: Any, kind: type[Cache[Any, Any]] = Cache, **options: Any) -> Cache[Any, Any]:
        made.append(kind(*args, **options))
        return made[-1]

    yield make
    for cache in made:
        cache.check()


@pytest.fixture
def clock() -> ManualClock:
    """A clock of whole seconds that starts at 1000."""
    return ManualClock(1000)
