"""Functions that count their calls, and a clock to turn."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.model import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable


class Counted:
    """Answers with its arguments, and notes them."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls.append((args, kwargs) if kwargs else args)
        return self.calls[-1]


@pytest.fixture
def counted() -> Counted:
    """A function whose calls are counted."""
    return Counted()


@pytest.fixture
def clock() -> ManualClock:
    """A clock of whole seconds that starts at 1000."""
    return ManualClock(1000)


@pytest.fixture
def together() -> Callable[..., list[Any]]:
    """``together(function, *arguments)``: call it in a thread for each, return what came of it."""

    def together(function: Callable[[Any], Any], *arguments: Any) -> list[Any]:
        outcomes: list[Any] = [None] * len(arguments)

        def run(i: int) -> None:
            try:
                outcomes[i] = function(arguments[i])
            except BaseException as error:
                outcomes[i] = error

        threads = [
            threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(arguments))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive(), "a thread hangs"
        return outcomes

    return together
