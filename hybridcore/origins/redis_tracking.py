"""Hears from a Redis server which keys were changed, by whomever: client tracking, by prefix."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from hybridcore.disk.keys import decode_key
from hybridcore.logs import RateLimitedLog, raised_by

OnChange = Callable[[list[Any] | None], object]
"""Told of the keys that changed; None: of any, as messages may have been lost."""

AGAIN = 0.5
"""Seconds before a lost connection is made again."""

_CHANNEL = "__redis__:invalidate"


class Tracking:
    """A thread that reads the invalidations of one prefix, and says when it may have missed some.

    The server sends them to one connection on behalf of another, which therefore has to live, too:
    the one that is asked in between whether it does.
    """

    def __init__(self, client: Any, prefix: bytes, on_change: OnChange, name: str) -> None:
        self._client = client
        self._prefix = prefix
        self._on_change = on_change
        self._name = name
        self._logs = RateLimitedLog(logging.getLogger("hybridcore"))
        self._stopping = threading.Event()
        self._listener, self._keeper = self._start()
        self._thread = threading.Thread(
            target=self._run, name="hybridcore-redis-tracking", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread and its connections; harmless when called twice."""
        self._stopping.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _start(self) -> tuple[Any, Any]:
        make = self._client.connection_pool.make_connection
        listener, keeper = make(), make()
        try:
            number = _asked(listener, "CLIENT", "ID")
            _asked(listener, "SUBSCRIBE", _CHANNEL)
            tracking = ("CLIENT", "TRACKING", "ON", "REDIRECT", number, "BCAST")
            _asked(keeper, *tracking, "PREFIX", self._prefix)
        except BaseException:
            _close(listener, keeper)
            raise
        return listener, keeper

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except Exception as error:  # the connection, or what it sent
                self._logs.warning("%s tells no changes for now: %s", self._name, raised_by(error))
            finally:
                _close(self._listener, self._keeper)
            while not self._stopping.wait(AGAIN):
                try:
                    self._listener, self._keeper = self._start()
                except Exception:  # noqa: S112  # it was logged why
                    continue
                self._tell(None)
                break
        _close(self._listener, self._keeper)

    def _listen(self) -> None:
        from redis.exceptions import TimeoutError as SilenceError

        while not self._stopping.is_set():
            try:
                message = self._listener.read_response(disconnect_on_error=False)
            except SilenceError:
                _asked(self._keeper, "PING")
                continue
            changed = message[2]
            self._tell(None if changed is None else self._keys(changed))

    def _keys(self, names: list[bytes]) -> list[Any]:
        keys = []
        for name in names:
            try:
                keys.append(decode_key(name[len(self._prefix) :]))
            except (ValueError, IndexError):  # none of ours
                continue
        return keys

    def _tell(self, keys: list[Any] | None) -> None:
        if keys is not None and not keys:
            return
        try:
            self._on_change(keys)
        except Exception as error:
            self._logs.warning("what is told of changes failed: %s", raised_by(error))


def _asked(connection: Any, *command: Any) -> Any:
    """The reply to a command, over a connection that is made for the first one."""
    connection.send_command(*command)
    return connection.read_response()


def _close(*connections: Any) -> None:
    for connection in connections:
        connection.disconnect()
