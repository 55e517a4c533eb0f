"""Queues that are open when the process is to end: closed, with what is left staying on disk."""

from __future__ import annotations

import atexit
import os
import signal
import sys
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
_listening = False
_listening_to_multiprocessing = 0
_are_closing = False


def close_at_exit(queue: Closing) -> None:
    """Have a queue closed when the interpreter exits, also that of a child that is forked."""
    global _listening
    _open.add(queue)
    if not _listening:
        atexit.register(close_all)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork_in_child)
        _listening = True
    _listen_to_multiprocessing()


def close_all(timeout: float = EXIT_TIMEOUT) -> None:
    """Close the queues of this process, which have so many seconds in all."""
    global _are_closing
    deadline = monotonic() + timeout
    _are_closing = True
    try:
        for queue in list(_open):
            queue.close(max(0.0, deadline - monotonic()))
    finally:
        _are_closing = False


def _listen_to_multiprocessing(*_: object) -> None:
    """Be told when a child of `multiprocessing` ends, which it does without `atexit`."""
    global _listening_to_multiprocessing
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None and _listening_to_multiprocessing != os.getpid():
        util.Finalize(None, close_all, exitpriority=-1)  # after it has joined its own children
        _listening_to_multiprocessing = os.getpid()


def _after_fork_in_child() -> None:
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:  # it forgets its finalizers first
        util.register_after_fork(_open, _listen_to_multiprocessing)


def exit_on_sigterm() -> None:
    """Have SIGTERM end the process as ``sys.exit`` does, so that queues are closed; opt-in.

    A handler that is installed already stays: queues are closed if the process exits by it. While
    they are being closed another SIGTERM is ignored.

    Raises:
        ValueError: this is not the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise ValueError("signal handlers can be installed in the main thread only")

    def handler(number: int, frame: FrameType | None) -> None:
        # To close them here could wait for a lock that the code below this frame holds.
        if not _are_closing:
            raise SystemExit(128 + number)

    if not callable(signal.getsignal(signal.SIGTERM)):
        signal.signal(signal.SIGTERM, handler)
