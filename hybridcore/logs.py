"""Logging that cannot flood: the same message at most once in an interval, and no key in clear."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from hashlib import blake2b
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST_MESSAGES = 1000
"""Messages whose time is remembered; the oldest are forgotten first."""

_salt = b""


class RateLimitedLog:
    """A logger that tells each message at most once in ``interval`` seconds.

    The first one is told at once, and the next one that is told says how many were held back.
    Messages are the same if their text before formatting and ``about`` are. Keys go through
    `shown`, values never belong in a message.

    Args:
        log_keys: show keys as they are.
    """

    def __init__(
        self,
        logger: logging.Logger,
        *,
        interval: float = 60.0,
        log_keys: bool = False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.logger = logger
        self.interval = interval
        self.log_keys = log_keys
        self._clock = clock
        self._lock = RLock()
        self._told: OrderedDict[tuple[str, Any], tuple[float, int]] = OrderedDict()

    def shown(self, key: Any) -> str:
        """The key as a log may show it: a short hash, the same within a process and its forks."""
        return repr(key) if self.log_keys else hashed(key)

    def log(self, level: int, message: str, *args: Any, about: Any = None) -> bool:
        """Log a message, unless it was told a short while ago; return whether it was."""
        if not self.logger.isEnabledFor(level):
            return False
        with self._lock:
            now = self._clock()
            at, held_back = self._told.get((message, about), (now - self.interval, 0))
            if now - at < self.interval:
                self._told[message, about] = (at, held_back + 1)
                return False
            self._told.pop((message, about), None)
            self._told[message, about] = (now, 0)
            if len(self._told) > _MOST_MESSAGES:
                self._told.popitem(last=False)
        if held_back:
            message, args = message + " (%d more like this since the last)", (*args, held_back)
        self.logger.log(level, message, *args)
        return True

    def warning(self, message: str, *args: Any, about: Any = None) -> bool:
        """`log` a warning."""
        return self.log(logging.WARNING, message, *args, about=about)

    def info(self, message: str, *args: Any, about: Any = None) -> bool:
        """`log` something of interest."""
        return self.log(logging.INFO, message, *args, about=about)

    def start_afresh(self) -> None:
        """Make a new lock: a forked child may have copied a held one."""
        self._lock = RLock()


def raised_by(error: BaseException) -> str:
    """The type of an error and where it was raised; its text may have keys and values in it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
    return f"{type(error).__name__}{where}"


def hashed(key: Any) -> str:
    """Eight hex digits that tell keys apart and do not tell what they are.

    They are salted anew in every process, so that nobody finds a key by trying.
    """
    global _salt
    _salt = _salt or os.urandom(16)
    return f"#{blake2b(repr(key).encode('utf-8', 'replace'), digest_size=4, key=_salt).hexdigest()}"
