"""Where events come from: streams and keys of Redis, and files."""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING, Any, Protocol

from hybridcore.errors import ConfigurationError
from hybridcore.logs import RateLimitedLog, raised_by

if TYPE_CHECKING:
    from collections.abc import Callable

    Publish = Callable[[str, Any, str | None], object]

log = RateLimitedLog(logging.getLogger("hybridcore"))

_PAUSE = 0.2
"""Seconds until a source that failed is tried again."""
_WAIT = 0.5
"""Seconds that a source waits for the next event before it looks whether it is to end."""

MISSED = "missed"
"""The event of a source that was away: anything may have happened. Its payload is a name."""


class Source(Protocol):
    """Publishes events until it is told to end."""

    def run(self, publish: Publish, closing: threading.Event) -> None:
        """Call ``publish(name, payload, id)`` for each event; return when ``closing`` is set.

        What it raises is logged, and it is run again a moment later.
        """


class Following:
    """A thread that runs a source; ended by `close`."""

    def __init__(self, source: Source, publish: Publish) -> None:
        self._source = source
        self._publish = publish
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hybridcore-source", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._closing.set()
        if self._thread is not threading.current_thread():
            self._thread.join(5.0)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._source.run(self._publish, self._closing)
            except Exception as error:
                log.warning("a source of events is tried again: %s", raised_by(error))
                self._closing.wait(_PAUSE)


class RedisStream:
    """The entries of a Redis stream as events; their payload is a dict of str.

    It begins with what is added after it was made, and goes on there after a disconnect. What was
    trimmed meanwhile is told by a `MISSED` event.

    Args:
        url: of Redis.
        stream: its name.
        event: the name of the events; None: the field ``"event"`` of each entry.
    """

    def __init__(self, url: str, stream: str, *, event: str | None = None) -> None:
        from hybridcore.invalidation.redis_bus import connected

        self._client = connected(url)
        self._stream = stream
        self._event = event
        self._position: str | None = None

    def run(self, publish: Publish, closing: threading.Event) -> None:
        from hybridcore.invalidation.redis_bus import read_stream

        try:
            while not closing.is_set():
                if self._position is None:
                    newest = self._client.xrevrange(self._stream, count=1)
                    self._position = newest[0][0].decode() if newest else "0-0"
                entries = read_stream(self._client, self._stream, self._position, 100, _WAIT)
                if entries and self._position != "0-0":
                    there = self._client.xrange(self._stream, self._position, self._position)
                    if not there:
                        publish(MISSED, self._stream, None)
                for at, fields in entries:
                    payload = {
                        name.decode(): value.decode("utf-8", "replace")
                        for name, value in fields.items()
                    }
                    name = self._event or payload.get("event", self._stream)
                    publish(name, payload, f"{self._stream} {at}")
                    self._position = at
        finally:
            self._client.close()


class RedisKeyspace:
    """Changes of keys in Redis as events: ``{"key": ..., "operation": "set"}``.

    Redis tells of them only if ``notify-keyspace-events`` has at least ``"K"`` and the classes
    wanted, such as ``"KA"``. It tells only who listens: after every disconnect there is a
    `MISSED` event.

    Args:
        url: of Redis, with the number of the database.
        pattern: a glob that keys have to match.
        event: the name of the events.
        configure: set ``notify-keyspace-events`` to ``"KA"`` if it is not set.
    """

    def __init__(
        self,
        url: str,
        pattern: str = "*",
        *,
        event: str = "redis.key",
        configure: bool = False,
    ) -> None:
        from hybridcore.invalidation.redis_bus import connected

        self._client = connected(url)
        self._pattern = pattern
        self._event = event
        self._configure = configure
        self._was_away = False

    def run(self, publish: Publish, closing: threading.Event) -> None:
        database = self._client.connection_pool.connection_kwargs.get("db") or 0
        channel = f"__keyspace@{database}__:"
        try:
            flags = self._client.config_get("notify-keyspace-events")["notify-keyspace-events"]
            flags = flags.decode() if isinstance(flags, bytes) else flags
            if "K" not in flags:
                if not self._configure:
                    raise ConfigurationError(
                        f"Redis has notify-keyspace-events {flags!r} and tells nothing: set it to "
                        '"KA", or give configure=True'
                    )
                self._client.config_set("notify-keyspace-events", "KA")
            with self._client.pubsub() as listening:
                listening.psubscribe(channel + self._pattern)
                if self._was_away:
                    publish(MISSED, self._event, None)
                self._was_away = True
                while not closing.is_set():
                    message = listening.get_message(timeout=_WAIT)
                    if message is not None and message["type"] == "pmessage":
                        key = message["channel"].decode("utf-8", "replace")[len(channel) :]
                        operation = message["data"].decode("ascii", "replace")
                        publish(self._event, {"key": key, "operation": operation}, None)
        finally:
            self._client.close()


class Files:
    """Changes of files as events: ``{"path": ..., "change": "added" | "modified" | "deleted"}``.

    Needs watchfiles: ``pip install hybridcore[watch]``. Changes within a few ms are one event.

    Args:
        paths: files and directories, these with all below.
        event: the name of the events.
    """

    def __init__(self, *paths: str | os.PathLike[str], event: str = "file") -> None:
        if not paths:
            raise ConfigurationError("Files is expected to be given a path")
        for path in paths:
            if not os.path.exists(path):
                raise ConfigurationError(f"there is no {os.fspath(path)!r} to be watched")
        try:
            import watchfiles
        except ImportError as error:
            raise ConfigurationError(
                "watching files needs watchfiles: pip install hybridcore[watch]"
            ) from error
        self._watch = watchfiles.watch
        self._paths = [os.fspath(path) for path in paths]
        self._event = event

    def run(self, publish: Publish, closing: threading.Event) -> None:
        changes = self._watch(
            *self._paths,
            stop_event=closing,
            watch_filter=None,
            debounce=50,
            step=10,
            rust_timeout=int(1000 * _WAIT),
            raise_interrupt=False,
        )
        for batch in changes:
            for change, path in sorted(batch):
                publish(self._event, {"path": path, "change": change.raw_str()}, None)
