"""Real LMDB directories, closed after each test, and a wall clock that is advanced by hand."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from hybridcore import Lmdb

SECOND = 1_000_000_000


class Clock:
    """Wall clock in nanoseconds."""

    def __init__(self) -> None:
        self.now = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_disk(tmp_path, clock):
    """Opens the test's directory, or another one, and closes everything at the end."""
    with ExitStack() as stack:

        def open_it(name: str = "cache", **options: Any) -> Lmdb[Any, Any]:
            options.setdefault("clock", clock)
            options.setdefault("max_bytes", "8MiB")
            return stack.enter_context(Lmdb(tmp_path / name, **options))

        yield open_it


@pytest.fixture
def disk(open_disk):
    return open_disk()
