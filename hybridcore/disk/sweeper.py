"""Deletes what has expired, now and then, in a thread that ends with its tier."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING

from hybridcore.errors import ClosedError, DiskError

if TYPE_CHECKING:
    from hybridcore.disk.writer import Writer

log = logging.getLogger(__name__)


class Sweeper:
    """Sweeps every ``interval`` seconds from the first `start` on; a fork's child starts anew."""

    def __init__(self, writer: Writer, interval: float) -> None:
        self._writer = weakref.ref(writer)
        self._interval = interval
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def start(self) -> None:
        """Have the thread run; cheap when it does."""
        thread = self._thread
        if (thread is None or not thread.is_alive()) and not self._stopped.is_set():
            self._thread = threading.Thread(
                target=_sweep,
                args=(self._writer, self._interval, self._stopped),
                name="hybridcore-sweeper",
                daemon=True,
            )
            self._thread.start()

    def stop(self) -> None:
        """Have the thread end, and wait for it unless it is the caller."""
        self._stopped.set()
        thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join()


def _sweep(reference: weakref.ref[Writer], interval: float, stopped: threading.Event) -> None:
    while not stopped.wait(interval):
        writer = reference()
        if writer is None:
            return
        try:
            writer.expire()
        except ClosedError:
            return
        except DiskError as error:
            log.warning("expired entries stay on disk for now: %s", error)
        del writer
