"""The origin that is an HTTP service: one GET per load, ETags, and patience on demand."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from hybridcore.errors import (
    ClosedError,
    ConfigurationError,
    OriginError,
    OriginTimeoutError,
    OriginUnavailableError,
)
from hybridcore.origins import http_rules as rules
from hybridcore.origins.base import Origin
from hybridcore.origins.http_rules import Body, Reply, Request
from hybridcore.origins.threads import running_loop
from hybridcore.types import Answer, NotModified, Validators
from hybridcore.units import Duration, Size, seconds, size_in_bytes

if TYPE_CHECKING:
    import httpx

K = TypeVar("K")
T = TypeVar("T")

Steps = Generator[Request | float, Any, T]
"""A talk with the service: yields a request to send or seconds to wait, ends with its result."""

MAX_REDIRECTS = 5
BACKOFF = 0.1
"""Seconds before the first retry of a failure that named no time; doubled for each further one."""
CLOSING = 1.0
"""Seconds that a sync close waits for connections in the event loops of other threads."""
PIECE = 16384
"""Bytes of a compressed body that are unpacked at a time."""
SPREAD = 0.25
"""Share of a wait by which it is stretched at random, so that waiting callers do not herd."""


@dataclass(frozen=True, slots=True)
class HttpStats:
    """What an `HttpOrigin` did so far in this process.

    ``requests``      sent, retries and redirects included
    ``bytes_in``      of bodies received, as they came over the wire (compressed)
    ``bytes_out``     of bodies sent
    ``not_modified``  replies 304: the copy held was still right
    ``errors``        requests that brought neither a value nor word that there is none
    """

    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    not_modified: int = 0
    errors: int = 0


class HttpOrigin(Origin[K, Any]):
    """Loads the value of a key with ``GET base_url/key``.

    200 is the value, 304 renews the copy held, 404 and 410 say that there is no such key.
    Connection failures, 5xx, 429 and 408 raise `OriginUnavailableError`, exceeded times
    `OriginTimeoutError`, everything else `OriginError`. When the service names a time
    (``Retry-After``), no request of this origin is sent before it: short waits are waited
    out, longer ones fail at once.

    Needs httpx: ``pip install hybridcore[http]``. Threads share one client; each event loop
    has its own; a forked child starts anew.

    Args:
        base_url: every key lives below it; redirects elsewhere are refused.
        timeout: for a connection, and for each wait for data.
        total_timeout: for one whole reply, so that a trickle ends too.
        headers: sent with each request; never shown in a repr or error.
        max_body: larger values are refused while they arrive.
        retries: how often a GET is tried again after a failure that may pass.
        max_wait: the longest time that one call spends waiting between its tries.
        max_connections: open at once; also how many keys ``load_many`` asks for at a time.
        ttl_from_headers: whether ``Cache-Control`` overrides the cache's own ttl.
        key_to_path: makes the percent-encoded path (and query) of a key, for keys that are
            not str or not paths.
        decode: takes the body and its content type and returns the value. By default JSON is
            parsed, text is str, the rest bytes.
        encode: takes a value and returns the body and content type that ``store`` sends.
        writable: ``store`` is a PUT and ``delete`` a DELETE; otherwise both are refused.
        name: shown in errors; by default the host and path of ``base_url``.

    Raises:
        ImportError: httpx is not installed.
        ConfigurationError: an option makes no sense.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout: Duration = "10s",
        total_timeout: Duration = "1m",
        headers: Mapping[str, str] | None = None,
        max_body: Size = "64MiB",
        retries: int = 2,
        max_wait: Duration = "5s",
        max_connections: int = 32,
        ttl_from_headers: bool = True,
        key_to_path: Callable[[K], str] | None = None,
        decode: Callable[[bytes, str], Any] = rules.decode_by_type,
        encode: Callable[[Any], tuple[bytes, str]] = rules.encode_by_type,
        writable: bool = False,
        name: str | None = None,
    ) -> None:
        _import_httpx()
        self._base = rules.checked_base(base_url)
        self._headers = rules.checked_headers(headers)
        self._timeout = _positive("timeout", timeout)
        self._total_timeout = _positive("total_timeout", total_timeout)
        self._max_body = size_in_bytes(max_body)
        self._max_wait = seconds(max_wait)
        if retries < 0 or max_connections < 1:
            raise ConfigurationError(
                "retries is expected to be at least 0 and max_connections at least 1, "
                f"got {retries} and {max_connections}"
            )
        self._retries = retries
        self.parallel = max_connections
        self._ttl_from_headers = ttl_from_headers
        self._key_to_path = key_to_path or rules.path_of
        self._decode = decode
        self._encode = encode
        self._writable = writable
        self.name = name or self._base.netloc.rpartition("@")[2] + self._base.path.rstrip("/")
        self._quiet_until = 0.0  # by time.monotonic()
        self._closed = False
        self._processes: dict[int, _Process] = {}

    def load(self, key: K, held: Validators | None = None) -> Answer[Any]:
        return self._drive(self._loading(key, held))

    async def aload(self, key: K, held: Validators | None = None) -> Answer[Any]:
        return await self._adrive(self._loading(key, held))

    async def aload_many(self, keys: Iterable[K]) -> dict[K, Answer[Any] | Exception]:
        return await self._at_once(keys)

    def store(self, key: K, value: Any) -> Validators | None:
        return self._drive(self._storing(key, value))

    async def astore(self, key: K, value: Any) -> Validators | None:
        return await self._adrive(self._storing(key, value))

    def delete(self, key: K) -> None:
        self._drive(self._deleting(key))

    async def adelete(self, key: K) -> None:
        await self._adrive(self._deleting(key))

    @property
    def writable(self) -> bool:
        return self._writable

    def stats(self) -> HttpStats:
        """Return what was done so far in this process."""
        process = self._process()
        with process.lock:
            return HttpStats(**process.counts)

    def close(self) -> None:
        self._closed = True
        process = self._process()
        if process.client is not None:
            process.client.close()
        closing = [
            asyncio.run_coroutine_threadsafe(client.aclose(), loop)
            for loop, client in list(process.async_clients.items())
            if loop.is_running()
        ]
        if running_loop() is None:
            concurrent.futures.wait(closing, timeout=CLOSING)

    async def aclose(self) -> None:
        client = self._process().async_clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()
        self.close()

    def __repr__(self) -> str:
        return f"HttpOrigin({self.name})"

    # What to send and what the replies mean, the same for both faces.

    def _loading(self, key: K, held: Validators | None) -> Steps[Answer[Any]]:
        request = Request("GET", self._address(key), rules.conditions(held))

        def answer(reply: Reply) -> Answer[Any]:
            return rules.answer(request, reply, held, self._decode, self._ttl_from_headers)

        return (yield from self._exchange(request, answer, self._retries))

    def _storing(self, key: K, value: Any) -> Steps[Validators | None]:
        if not self._writable:
            raise self._read_only("give it writable=True")
        content, content_type = self._encode(value)
        request = Request("PUT", self._address(key), {"Content-Type": content_type}, content)

        def written(reply: Reply) -> Validators | None:
            rules.check_success(request, reply)
            return rules.validators(reply.headers)

        return (yield from self._exchange(request, written, retries=0))

    def _deleting(self, key: K) -> Steps[None]:
        if not self._writable:
            raise self._read_only("give it writable=True")
        request = Request("DELETE", self._address(key), {})

        def deleted(reply: Reply) -> None:
            if reply.status not in rules.MISSING:
                rules.check_success(request, reply)

        return (yield from self._exchange(request, deleted, retries=0))

    def _address(self, key: K) -> str:
        return rules.address(self._base, self._key_to_path(key))

    def _exchange(self, request: Request, judge: Callable[[Reply], T], retries: int) -> Steps[T]:
        """Send until a reply can be judged, within the retries and the time to wait."""
        waited, redirects = 0.0, 0
        tries = 0
        while True:
            while (quiet := self._quiet_until - time.monotonic()) > 0:
                if waited + quiet > self._max_wait:
                    raise OriginUnavailableError(
                        f"{self.name} asked to be left alone for another {quiet:.1f} s",
                        retry_after=quiet,
                    )
                waited += quiet
                yield quiet * random.uniform(1, 1 + SPREAD)
            try:
                reply = yield from self._send(request)
                if reply.redirect is not None and request.method == "GET":
                    redirects += 1
                    request = self._redirected(request, reply.redirect, redirects)
                    continue
                result = judge(reply)
            except OriginUnavailableError as error:
                self._count(errors=1)
                pause = error.retry_after
                if pause is not None:
                    self._quiet_until = max(self._quiet_until, time.monotonic() + pause)
                else:
                    pause = BACKOFF * 2**tries * random.uniform(1 - SPREAD, 1 + SPREAD)
                tries += 1
                if tries > retries or waited + pause > self._max_wait:
                    raise
                if error.retry_after is None:
                    waited += pause
                    yield pause
            except OriginError:
                self._count(errors=1)
                raise
            else:
                self._count(not_modified=isinstance(result, NotModified))
                return result

    def _send(self, request: Request) -> Steps[Reply]:
        import httpx

        try:
            reply: Reply = yield request
        except OriginError as error:
            raise type(error)(f"{request}: {error}") from error
        except httpx.TimeoutException as error:
            raise OriginTimeoutError(f"{request} took over {self._timeout:g} s") from error
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.DecodingError) as error:
            raise OriginError(f"{request} failed: {type(error).__name__}") from error
        except httpx.TransportError as error:
            raise OriginUnavailableError(f"{request} failed: {error}") from error
        except httpx.InvalidURL as error:
            raise OriginError(f"{request} has no valid address: {error}") from error
        rules.check_available(request, reply)
        return reply

    def _redirected(self, request: Request, target: str, redirects: int) -> Request:
        moved = Request(request.method, target, request.headers)
        if not rules.same_service(self._base, target):
            raise OriginError(f"{request} redirects to another service, which is refused: {moved}")
        if redirects > MAX_REDIRECTS:
            raise OriginError(f"{request} was redirected more than {MAX_REDIRECTS} times")
        return moved

    def _count(self, **more: int) -> None:
        process = self._process()
        with process.lock:
            process.counts.update(more)

    def _process(self) -> _Process:
        process = self._processes.get(os.getpid())
        return process or self._processes.setdefault(os.getpid(), _Process())

    def _options(self) -> dict[str, Any]:
        import httpx

        return {
            "headers": {"User-Agent": "hybridcore"} | self._headers,
            "timeout": httpx.Timeout(self._timeout),
            "limits": httpx.Limits(max_connections=self.parallel, keepalive_expiry=30.0),
        }

    def _begin(self, request: Request) -> tuple[_Process, float]:
        if self._closed:
            raise ClosedError(f"{self.name} is closed")
        self._count(requests=1, bytes_out=len(request.content))
        return self._process(), time.monotonic() + self._total_timeout

    # The two faces: they wait, send and read, and decide nothing.

    def _drive(self, talk: Steps[T]) -> T:
        try:
            step = next(talk)
            while True:
                try:
                    outcome = self._perform(step)
                except Exception as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(outcome)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            talk.close()

    async def _adrive(self, talk: Steps[T]) -> T:
        try:
            step = next(talk)
            while True:
                try:
                    outcome = await self._aperform(step)
                except Exception as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(outcome)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            talk.close()

    def _perform(self, step: Request | float) -> Reply | None:
        if isinstance(step, float):
            time.sleep(step)
            return None
        process, deadline = self._begin(step)
        client = process.sync_client(self._options)
        response = client.send(_built(client, step), stream=True)
        try:
            body = Body(response.status_code, response.headers, self._max_body, deadline)
            for chunk in response.iter_raw():
                if not body.add(chunk):
                    break
        finally:
            response.close()
            self._count(bytes_in=response.num_bytes_downloaded)
        return _reply(response, body)

    async def _aperform(self, step: Request | float) -> Reply | None:
        if isinstance(step, float):
            await asyncio.sleep(step)
            return None
        process, deadline = self._begin(step)
        client = process.async_client(self._options)
        response = await client.send(_built(client, step), stream=True)
        chunks = response.aiter_raw()
        try:
            body = Body(response.status_code, response.headers, self._max_body, deadline)
            async for chunk in chunks:
                if not body.add(chunk):
                    break
        finally:
            await response.aclose()
            # httpx reads through nested generators; left early, each would be closed by the
            # collector at some time. On a closed connection the next read ends them all.
            with contextlib.suppress(Exception):
                async for _ in chunks:
                    pass
            self._count(bytes_in=response.num_bytes_downloaded)
        return _reply(response, body)


class _Process:
    """What a forked child must not share with its parent: sockets, locks and counts."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.client: httpx.Client | None = None
        self.async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            WeakKeyDictionary()
        )

    def sync_client(self, options: Callable[[], dict[str, Any]]) -> httpx.Client:
        with self.lock:
            if self.client is None:
                import httpx

                self.client = httpx.Client(**options())
            return self.client

    def async_client(self, options: Callable[[], dict[str, Any]]) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        with self.lock:
            client = self.async_clients.get(loop)
            if client is None:
                import httpx

                self.async_clients[loop] = client = httpx.AsyncClient(**options())
            return client


def _built(client: httpx.Client | httpx.AsyncClient, request: Request) -> httpx.Request:
    return client.build_request(
        request.method, request.url, headers=request.headers, content=request.content or None
    )


def _reply(response: httpx.Response, body: Body) -> Reply:
    moved = response.next_request
    content = body.content()
    if response.is_success and "content-encoding" in response.headers:
        content = body.unpacked(_unpacking(response, content))
    return Reply(
        response.status_code,
        response.headers,
        content,
        None if moved is None else str(moved.url),
    )


def _unpacking(response: httpx.Response, packed: bytes) -> Iterator[bytes]:
    """Undo the content encoding piece by piece, so that a small body cannot become a huge one."""
    import httpx

    pieces = (packed[at : at + PIECE] for at in range(0, len(packed), PIECE))
    return httpx.Response(200, headers=response.headers, content=pieces).iter_bytes()


def _import_httpx() -> None:
    try:
        import httpx  # noqa: F401  # only to say at once that it is missing
    except ImportError as error:
        raise ImportError("HttpOrigin needs httpx: pip install hybridcore[http]") from error


def _positive(option: str, duration: Duration) -> float:
    limit = seconds(duration)
    if not 0 < limit < threading.TIMEOUT_MAX:
        raise ConfigurationError(f"{option} is expected to be over 0 and finite, got {duration!r}")
    return limit
