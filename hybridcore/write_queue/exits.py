"""Queues that are open when the process is to end: closed, with what is left staying on disk."""

from __future__ import annotations

import atexit
import signal
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from types import FrameType

EXIT_TIMEOUT = 5.0
"""Seconds that the queues of a process have, when it exits, to bring out what waits."""


class Closing(Protocol):
    """What is closed at exit."""

    def close(self, timeout: float | None = None) -> bool:
        """Bring out what waits for so many seconds."""


_open: WeakSet[Closing] = WeakSet()
_closing_at_exit = False


def close_at_exit(queue: Closing) -> None:
    """Have a queue closed when the interpreter exits."""
    global _closing_at_exit
    _open.add(queue)
    if not _closing_at_exit:
        atexit.register(close_all)
        _closing_at_exit = True


def close_all(timeout: float = EXIT_TIMEOUT) -> None:
    """Close the queues of this process, which have so many seconds in all."""
    deadline = monotonic() + timeout
    for queue in list(_open):
        queue.close(max(0.0, deadline - monotonic()))


def exit_on_sigterm() -> None:
    """Have SIGTERM end the process as ``sys.exit`` does, so that queues are closed; opt-in.

    A handler that is installed already is called afterwards.

    Raises:
        ValueError: this is not the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("signal handlers can be installed in the main thread only")
    before = signal.getsignal(signal.SIGTERM)

    def handler(number: int, frame: FrameType | None) -> Any:
        close_all()
        if callable(before):
            return before(number, frame)
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, handler)
