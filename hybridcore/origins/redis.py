"""The origin that is a Redis or Valkey: a tier that many hosts share."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from itertools import islice
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore.disk.keys import encode_key
from hybridcore.errors import (
    ConfigurationError,
    DecodeError,
    HybridCoreError,
    KeyEncodingError,
    OriginError,
    ValueTooLargeError,
)
from hybridcore.origins.base import Origin
from hybridcore.origins.records import Records
from hybridcore.origins.redis_client import client, clients, translated
from hybridcore.origins.redis_url import parse
from hybridcore.origins.threads import run_in_thread
from hybridcore.origins.usage import Meter
from hybridcore.steps import arun_steps, run_steps
from hybridcore.types import Loaded, NotFound
from hybridcore.units import Duration, Size, seconds, size_in_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hybridcore.codec import Codecs, Compression
    from hybridcore.origins.redis_tracking import OnChange, Tracking
    from hybridcore.stats import OriginUsage
    from hybridcore.types import Answer, Validators

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

Command = tuple[Any, ...]
Steps = Generator[list[Command], list[Any], T]
"""Yields the commands of one round trip and is sent their replies, errors among them."""

_AT_ONCE = 4096
"""Commands or keys in one round trip: a reply of more would be held in memory on both sides."""

_PER_COMMAND = 512
"""Keys that one command asks for: the server does nothing else meanwhile."""

_FOR_EVER = 100 * 366 * 86400.0
"""Seconds; records and servers cannot tell of a longer ttl: their numbers end."""

_LISTEN = 0.5
"""Seconds of silence after which a tracking connection is checked."""

_CLOCK_GOOD_FOR = 60 * 1_000_000_000
"""ns after which the server is asked again what time it is."""


class RedisOrigin(Origin[K, V]):
    """A remote tier in Redis 6 or later, or in Valkey, that any number of hosts share.

    Values are records as on disk, with codec, checksum, version, validators, tags, cost and
    ttl. The server expires them. What cannot be read, because it is damaged, of another key or
    somebody else's, is a miss and counted. Keys may be what the disk tier takes. Many keys go in
    one round trip, up to 4096 of them. What a cache writes comes with its ttl, and the ttl that is
    left comes back with a value. Needs redis-py: ``pip install hybridcore[redis]``.

    Connections are opened when first used. Threads share one pool; each event loop has its own; a
    forked child starts anew.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) with ``user:password@host:port/database``;
            ``unix:///path?db=0``; ``redis+sentinel://host,host/service/database``;
            ``redis+cluster://host,host``; with ``rediss+`` over TLS.
        username, password: in the place of those in the URL.
        prefix: before every key.
        ttl: of what is stored without one; None: until the server evicts it.
        timeout: for a connection, for a free one of the pool, and for each reply.
        retries: how often a command is sent again when its connection broke.
        max_connections: of one pool; in a cluster, of each of its nodes.
        max_value: larger records are not stored.
        codecs, compression: how values become bytes, as for `Lmdb`.
        name: shown in errors; by default the URL without credentials.

    Raises:
        ImportError: redis-py is not installed.
        ConfigurationError: the URL or an option makes no sense.
    """

    takes_entries = True

    def __init__(
        self,
        url: str = "redis://localhost",
        *,
        username: str | None = None,
        password: str | None = None,
        prefix: str = "hybridcore:",
        ttl: Duration | None = None,
        timeout: Duration = "1s",
        retries: int = 1,
        max_connections: int = 32,
        max_value: Size = "64MiB",
        codecs: Codecs | None = None,
        compression: Compression | None = None,
        name: str | None = None,
    ) -> None:
        try:
            import redis  # noqa: F401  # only to say at once that it is missing
        except ImportError as error:
            raise ImportError(
                "a Redis origin needs redis-py: pip install hybridcore[redis]"
            ) from error
        address = parse(url)
        given = {"username": username, "password": password}
        address.options.update({option: text for option, text in given.items() if text})
        patience = seconds(timeout)
        if not 0 < patience < TIMEOUT_MAX:
            raise ConfigurationError(
                f"timeout is expected to be over 0 and finite, got {timeout!r}"
            )
        for option, number, least in (
            ("retries", retries, 0),
            ("max_connections", max_connections, 1),
        ):
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise ConfigurationError(
                    f"{option} is expected to be at least {least}, got {number!r}"
                )
        self.name = name or address.shown
        self.meter = Meter()
        self._prefix = prefix.encode()
        self._ttl = None if ttl is None else seconds(ttl)
        self._max_value = size_in_bytes(max_value)
        self._address = address
        self._is_cluster = address.kind == "cluster"
        self._tracking: list[Tracking] = []
        self._clock = _ServerClock()
        self._records = Records(codecs, compression, self._clock)
        self._clients = clients(
            address,
            self.name,
            timeout=patience,
            retries=retries,
            max_connections=max_connections,
        )

    def load(self, key: K, held: Validators | None = None) -> Answer[V]:
        return self._run(self._loading(key))

    async def aload(self, key: K, held: Validators | None = None) -> Answer[V]:
        return await self._arun(self._loading(key))

    def load_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        return self._run(self._loading_many(keys))

    async def aload_many(self, keys: Iterable[K]) -> dict[K, Answer[V] | Exception]:
        return await self._arun(self._loading_many(keys))

    def store(self, key: K, value: V) -> Validators | None:
        _raise_any(self._run(self._storing({key: value})))
        return None

    async def astore(self, key: K, value: V) -> Validators | None:
        _raise_any(await self._arun(self._storing({key: value})))
        return None

    def store_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        return self._run(self._storing(items))

    async def astore_many(self, items: Mapping[K, V]) -> dict[K, Exception]:
        return await self._arun(self._storing(items))

    def delete(self, key: K) -> None:
        _raise_any(self._run(self._deleting([key])))

    async def adelete(self, key: K) -> None:
        _raise_any(await self._arun(self._deleting([key])))

    def delete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        return self._run(self._deleting(keys))

    async def adelete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        return await self._arun(self._deleting(keys))

    def track(self, on_change: OnChange) -> Callable[[], None]:
        """Have a function told, in a thread of its own, of the keys that anybody changes.

        It gets a list of keys, those that expired or were evicted included; or None after the
        connection was lost, when any key may have changed unnoticed. Returns a function that ends
        it, as closing does. A forked child has to ask anew.

        Raises:
            OriginError: the server cannot be reached, or does not track.
            ConfigurationError: the server is a cluster.
        """
        from hybridcore.origins.redis_tracking import Tracking

        if self._is_cluster:
            raise ConfigurationError(
                "changes are not tracked over a cluster, where each node tells of its own keys; "
                "track an origin for each node"
            )
        # By RESP2 the messages come over a channel, which redis-py hands on as they are.
        made = client(self._address, "redis", timeout=_LISTEN, retries=0, most=1, protocol=2)
        try:
            tracking = Tracking(made, self._prefix, on_change, self.name)
        except Exception as error:
            raise self._failed(error) from error
        self._tracking.append(tracking)
        return tracking.stop

    def usage(self) -> OriginUsage:
        usage = self.meter.usage()
        damaged = self._records.damaged()
        if not damaged:
            return usage
        errors = Counter(usage.errors)
        errors[DecodeError.__name__] += damaged
        return replace(usage, errors=dict(errors))

    def close(self) -> None:
        for tracking in self._tracking:
            tracking.stop()
        self._clients.close()

    async def aclose(self) -> None:
        for tracking in self._tracking:
            await run_in_thread(tracking.stop)
        await self._clients.aclose()

    def __repr__(self) -> str:
        return f"RedisOrigin({self.name})"

    # What to send and what the replies mean, the same for both faces.

    def _loading(self, key: K) -> Steps[Answer[V]]:
        form = encode_key(key)
        yield from self._synchronized()
        (reply,) = yield [("GET", self._prefix + form)]
        answer: Answer[V] | Exception = self._answer(form, reply)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _loading_many(self, keys: Iterable[K]) -> Steps[dict[K, Answer[V] | Exception]]:
        answers: dict[K, Answer[V] | Exception] = {}
        wanted, forms = self._forms(keys, answers)
        yield from self._synchronized()
        for at in range(0, len(wanted), _AT_ONCE):
            part = slice(at, at + _AT_ONCE)
            names = [self._prefix + form for form in forms[part]]
            if self._is_cluster:
                replies = yield [("GET", name) for name in names]
            else:
                pieces = [names[i : i + _PER_COMMAND] for i in range(0, len(names), _PER_COMMAND)]
                replies = []
                for piece, found in zip(
                    pieces, (yield [("MGET", *piece) for piece in pieces]), strict=True
                ):
                    replies += [found] * len(piece) if isinstance(found, Exception) else found
            unpack, missing = self._records.unpack, NotFound()
            for key, form, reply in zip(wanted[part], forms[part], replies, strict=True):
                if type(reply) is bytes:
                    answers[key] = unpack(form, reply) or missing
                else:
                    answers[key] = missing if reply is None else self._answer(form, reply)
        return answers

    def _storing(self, items: Mapping[K, V]) -> Steps[dict[K, Exception]]:
        errors: dict[K, Exception] = {}
        yield from self._synchronized()
        pairs = iter(items.items())
        while part := list(islice(pairs, _AT_ONCE)):
            commands: dict[K, Command] = {}
            for key, value in part:
                try:
                    commands[key] = self._set(key, value)
                except HybridCoreError as error:  # one value that cannot be stored
                    errors[key] = error
            yield from self._written(commands, errors)
        return errors

    def _deleting(self, keys: Iterable[K]) -> Steps[dict[K, Exception]]:
        errors: dict[K, Exception] = {}
        wanted, forms = self._forms(keys, errors)
        for at in range(0, len(wanted), _AT_ONCE):
            part = slice(at, at + _AT_ONCE)
            unlinks = [("UNLINK", self._prefix + form) for form in forms[part]]
            yield from self._written(dict(zip(wanted[part], unlinks, strict=True)), errors)
        return errors

    def _written(self, commands: Mapping[K, Command], errors: dict[K, Exception]) -> Steps[None]:
        if not commands:
            return
        replies = yield list(commands.values())
        for key, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception):
                errors[key] = self._failed(reply, calls=0)

    def _set(self, key: K, value: Any) -> Command:
        entry = value if isinstance(value, Loaded) else Loaded(value)
        ttl = self._ttl if entry.ttl is None else entry.ttl
        form = encode_key(key)
        name = self._prefix + form
        if ttl is not None and ttl <= 0:
            return ("UNLINK", name)
        if ttl is not None and ttl > _FOR_EVER:
            ttl = None
        record = self._records.pack(form, entry, ttl)
        if len(record) > self._max_value:
            raise ValueTooLargeError(
                f"the value takes {len(record)} bytes, more than max_value={self._max_value}"
            )
        expiry = () if ttl is None else ("PX", max(1, math.ceil(ttl * 1000)))
        return ("SET", name, bytes(record), *expiry)

    def _answer(self, form: bytes, reply: Any) -> Any:
        if type(reply) is bytes or reply is None:
            return self._records.unpack(form, reply) or NotFound()
        if isinstance(reply, Exception) and not str(reply).startswith("WRONGTYPE"):
            return self._failed(reply, calls=0)
        self.meter.record(calls=0, error=DecodeError("not a string"))
        return NotFound()

    def _forms(self, keys: Iterable[K], errors: dict[K, Any]) -> tuple[list[K], list[bytes]]:
        """The keys, each once, and their canonical forms; those that have none are errors."""
        forms: dict[K, bytes] = {}
        for key in keys:
            try:
                forms[key] = encode_key(key)
            except KeyEncodingError as error:
                errors[key] = error
        return list(forms), list(forms.values())

    def _synchronized(self) -> Steps[None]:
        """Ask the server what time it is, now and then: the hosts that share it may disagree."""
        if not self._clock.is_due():
            return
        asked = time.monotonic_ns()
        (reply,) = yield [("TIME",)]
        if isinstance(reply, Exception):  # not allowed to ask
            self._clock.set(time.time_ns(), time.monotonic_ns())
        else:
            at, micros = reply
            self._clock.set(
                int(at) * 1_000_000_000 + int(micros) * 1000,
                (asked + time.monotonic_ns()) // 2,
            )

    # The two faces: they send and read, and decide nothing.

    def _run(self, talk: Steps[T]) -> T:
        return run_steps(talk, self._perform)

    async def _arun(self, talk: Steps[T]) -> T:
        return await arun_steps(talk, self._aperform)

    def _perform(self, commands: list[Command]) -> list[Any]:
        started = time.monotonic()
        try:
            replies = _only(commands, _send(self._clients.here(), commands))
        except Exception as error:
            replies = self._replies(error, started)
        self._count(commands, replies, started)
        return replies

    async def _aperform(self, commands: list[Command]) -> list[Any]:
        started = time.monotonic()
        try:
            replies = _only(commands, await _send(self._clients.of_loop(), commands))
        except Exception as error:
            replies = self._replies(error, started)
        self._count(commands, replies, started)
        return replies

    def _replies(self, error: Exception, started: float) -> list[Any]:
        """The reply that an error is, or raise it for what it is."""
        from redis.exceptions import ResponseError

        if isinstance(error, ResponseError):
            return [error]
        self._clock.expire()  # who answers next may be another server
        raise self._failed(error, time.monotonic() - started) from error

    def _failed(self, error: Exception, took: float = 0.0, *, calls: int = 1) -> Exception:
        failure = translated(self.name, error)
        if isinstance(failure, OriginError):
            self.meter.record(took, calls=calls, error=failure)
        return failure

    def _count(self, commands: list[Command], replies: list[Any], started: float) -> None:
        self.meter.record(
            time.monotonic() - started,
            bytes_in=sum(map(_size, replies)),
            bytes_out=sum(map(_size, commands)),
        )


class _ServerClock:
    """The wall clock of a server in ns, kept by the monotonic clock here between two questions."""

    def __init__(self) -> None:
        self._ahead = time.time_ns() - time.monotonic_ns()
        self._good_until = 0

    def __call__(self) -> int:
        return time.monotonic_ns() + self._ahead

    def is_due(self) -> bool:
        return time.monotonic_ns() >= self._good_until

    def set(self, now: int, at: int) -> None:
        self._ahead = now - at
        self._good_until = at + _CLOCK_GOOD_FOR

    def expire(self) -> None:
        self._good_until = 0


def _send(client: Any, commands: list[Command]) -> Any:
    """Send commands in one round trip; what is returned has to be awaited of an async client."""
    if len(commands) == 1:
        return client.execute_command(*commands[0])
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    return pipeline.execute(raise_on_error=False)


def _only(commands: list[Command], replies: Any) -> list[Any]:
    return [replies] if len(commands) == 1 else replies


def _size(thing: Any) -> int:
    if type(thing) is bytes:
        return len(thing)
    if not isinstance(thing, (list, tuple)):
        return 0
    return sum([len(part) if type(part) is bytes else _size(part) for part in thing])


def _raise_any(errors: Mapping[Any, Exception]) -> None:
    for error in errors.values():
        raise error
