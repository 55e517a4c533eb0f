"""`RedisBus`: invalidations by a stream of Redis or Valkey."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ConfigurationError
from hybridcore.invalidation.bus import START, BusError, GapError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FIELD = b"m"
_AT_ONCE = 1000
"""Messages that are received at a time."""
_CONNECT_SECONDS = 1.0
_ANSWER_SECONDS = 2.0
"""Until a server that does not answer counts as gone; beyond the time that it is told to wait."""


class RedisBus:
    """A stream of Redis 6 or later, or of Valkey, that every host adds to and reads.

    Needs redis-py: ``pip install hybridcore[redis]``. It is spoken to in RESP3.

    Who was away goes on where it stopped. Who was away for so long that messages were trimmed
    meanwhile, and whoever meets a server that has lost its stream, has all entries loaded anew.

    Args:
        url: such as ``"redis://127.0.0.1:6379/0"``, ``"rediss://..."`` or ``"unix://..."``.
        stream: the name of the stream; caches that share it share their invalidations.
        max_length: about how many messages the stream keeps.

    Raises:
        ConfigurationError: the URL makes no sense, or redis-py is missing.
    """

    def __init__(
        self, url: str, *, stream: str = "hybridcore", max_length: int = 100_000, **options: Any
    ) -> None:
        if max_length < 1:
            raise ConfigurationError(f"max_length is expected to be at least 1, got {max_length}")
        self._client = connected(url, **options)
        self._stream = stream
        self._max_length = max_length

    @property
    def name(self) -> str:
        return f"redis:{self._stream}"

    def join(self) -> str:
        return self.publish([START])

    def publish(self, contents: Sequence[bytes]) -> str:
        with _told_as_bus_errors():
            pipeline = self._client.pipeline(transaction=False)
            for content in contents:
                pipeline.xadd(
                    self._stream, {_FIELD: content}, maxlen=self._max_length, approximate=True
                )
            ids = pipeline.execute()
        return str(ids[-1].decode())

    def receive(self, position: str, seconds: float) -> list[tuple[str, bytes]]:
        with _told_as_bus_errors():
            entries = read_stream(self._client, self._stream, position, _AT_ONCE, seconds)
            # What is trimmed goes from the front. As long as the entry that was seen last is
            # there, whatever followed it was there when it was read.
            first, last, there = self._look(position)
        if not there and (entries or last != _ordered(position)):
            raise GapError(
                f"the stream {self._stream!r} no longer has what came after {position}: it "
                f"begins at {first[0]}-{first[1]}"
            )
        return [(at, fields.get(_FIELD, START)) for at, fields in entries]

    def has_lost(self, position: str) -> bool:
        with _told_as_bus_errors():
            first, last, there = self._look(position)
        # Trimmed is what lies before the first; others will notice that by themselves.
        return not there and (last < _ordered(position) or first < _ordered(position))

    def close(self) -> None:
        self._client.close()

    def _look(self, position: str) -> tuple[tuple[int, int], tuple[int, int], bool]:
        """The first position, the last one that was ever given, and whether this one is there."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.xrange(self._stream, position, position, count=1)
        pipeline.xinfo_stream(self._stream)
        there, about = pipeline.execute(raise_on_error=False)
        if isinstance(about, Exception):
            if "no such key" not in str(about):
                raise about
            return (0, 0), (0, 0), False
        first = about["first-entry"]
        return (
            _ordered(first[0].decode()) if first else (0, 0),
            _ordered(about["last-generated-id"].decode()),
            bool(there),
        )

    def __repr__(self) -> str:
        return f"RedisBus(stream={self._stream!r})"


def connected(url: str, **options: Any) -> Any:
    """A client of redis-py that tells of every failure at once.

    Raises:
        ConfigurationError: the URL makes no sense, or redis-py is missing.
    """
    try:
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry
    except ImportError as error:
        raise ConfigurationError(
            "Redis needs the redis package: pip install hybridcore[redis]"
        ) from error
    options = {
        "protocol": 3,
        "socket_connect_timeout": _CONNECT_SECONDS,
        "socket_timeout": _ANSWER_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        **options,
    }
    try:
        return redis.Redis.from_url(url, **options)
    except ValueError as error:  # whose text does not have the URL, which may have a password
        raise ConfigurationError(
            f"the URL of Redis makes no sense ({error}); write redis://HOST:PORT/DATABASE"
        ) from None


def read_stream(
    client: Any, stream: str, position: str, most: int, seconds: float
) -> list[tuple[str, dict[bytes, bytes]]]:
    """The entries of a stream after a position; waits so many seconds for the first."""
    wait = max(1, int(1000 * min(seconds, _ANSWER_SECONDS / 2)))
    found = client.xread({stream: position}, count=most, block=wait)
    if not found:
        return []
    batches = found.values() if isinstance(found, dict) else (entries for _, entries in found)
    return [
        (entry[0].decode(), entry[1])
        for batch in batches
        for entry in (batch[0] if batch and isinstance(batch[0], list) else batch)
    ]


def _ordered(position: str) -> tuple[int, int]:
    """A position, to be compared."""
    milliseconds, _, number = position.partition("-")
    return int(milliseconds), int(number or 0)


@contextmanager
def _told_as_bus_errors() -> Iterator[None]:
    import redis

    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise BusError(f"Redis does not answer: {type(error).__name__}") from error
