"""The way to an HTTP service: pooled connections, time limits, redirects, patience, retries."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import replace
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
from hybridcore.origins.http_rules import Body, Reply, Request
from hybridcore.origins.threads import running_loop
from hybridcore.origins.usage import Meter
from hybridcore.steps import arun_steps, run_steps
from hybridcore.types import NotModified
from hybridcore.units import Duration, Size, seconds, size_in_bytes

if TYPE_CHECKING:
    import httpx

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


class HttpTransport:
    """Carries talks with one service, for threads and for event loops, and meters them.

    Threads share one client; each event loop has its own; a forked child starts anew. When the
    service names a time (``Retry-After``), nothing is sent before it.

    Args:
        base_url: redirects elsewhere are refused.
        name: shown in errors.
        timeout: for a connection, and for each wait for data.
        total_timeout: for one whole reply, so that a trickle ends too.
        headers: sent with each request; never shown in a repr or error.
        max_body: larger bodies are refused while they arrive.
        max_wait: the longest time that one talk spends waiting between its tries.
        max_connections: open at once.
        check: raises what a reply says of the service as a whole (busy, down, out of quota)
            before it is judged.
        meter: counts calls, errors and bytes.

    Raises:
        ImportError: httpx is not installed.
        ConfigurationError: an option makes no sense.
    """

    def __init__(
        self,
        base_url: str,
        *,
        name: str | None = None,
        timeout: Duration = "10s",
        total_timeout: Duration = "1m",
        headers: Mapping[str, str] | None = None,
        max_body: Size = "64MiB",
        max_wait: Duration = "5s",
        max_connections: int = 32,
        check: Callable[[Request, Reply], None] = rules.check_available,
        meter: Meter | None = None,
    ) -> None:
        _import_httpx()
        self.base = rules.checked_base(base_url)
        self.name = name or self.base.netloc.rpartition("@")[2] + self.base.path.rstrip("/")
        self.meter = Meter() if meter is None else meter
        self._headers = rules.checked_headers(headers)
        self._timeout = _positive("timeout", timeout)
        self._total_timeout = _positive("total_timeout", total_timeout)
        self._max_body = size_in_bytes(max_body)
        self._max_wait = seconds(max_wait)
        if max_connections < 1:
            raise ConfigurationError(
                f"max_connections is expected to be at least 1, got {max_connections}"
            )
        self._max_connections = max_connections
        self._check = check
        self._quiet_until = 0.0  # by time.monotonic()
        self._closed = False
        self._processes: dict[int, _Process] = {}

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

    def exchange(self, request: Request, judge: Callable[[Reply], T], retries: int) -> Steps[T]:
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
                self.meter.record(calls=0, error=error)
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
            except OriginError as error:
                self.meter.record(calls=0, error=error)
                raise
            else:
                if isinstance(result, NotModified):
                    self.meter.record(calls=0, not_modified=1)
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
        self._check(request, reply)
        return reply

    def _redirected(self, request: Request, target: str, redirects: int) -> Request:
        moved = replace(request, url=target)
        if not rules.same_service(self.base, target):
            raise OriginError(f"{request} redirects to another service, which is refused: {moved}")
        if redirects > MAX_REDIRECTS:
            raise OriginError(f"{request} was redirected more than {MAX_REDIRECTS} times")
        return moved

    def _process(self) -> _Process:
        process = self._processes.get(os.getpid())
        return process or self._processes.setdefault(os.getpid(), _Process())

    def _options(self) -> dict[str, Any]:
        import httpx

        return {
            "headers": {"User-Agent": "hybridcore", "Accept-Encoding": "gzip"} | self._headers,
            "timeout": httpx.Timeout(self._timeout),
            "limits": httpx.Limits(max_connections=self._max_connections, keepalive_expiry=30.0),
        }

    def _begin(self, request: Request) -> tuple[_Process, float]:
        if self._closed:
            raise ClosedError(f"{self.name} is closed")
        self.meter.record(bytes_out=len(request.content))
        return self._process(), time.monotonic() + self._total_timeout

    def _received(self, response: httpx.Response, started: float) -> None:
        self.meter.record(
            time.monotonic() - started, calls=0, bytes_in=response.num_bytes_downloaded
        )

    # The two faces: they wait, send and read, and decide nothing.

    def run(self, talk: Steps[T]) -> T:
        """Carry out a talk, blocking."""
        return run_steps(talk, self._perform)

    async def arun(self, talk: Steps[T]) -> T:
        """Twin of `run`."""
        return await arun_steps(talk, self._aperform)

    def _perform(self, step: Request | float) -> Reply | None:
        if isinstance(step, float):
            time.sleep(step)
            return None
        process, deadline = self._begin(step)
        client = process.sync_client(self._options)
        started = time.monotonic()
        response = client.send(_built(client, step), stream=True)
        if step.streamed and response.is_success:
            return Reply(response.status_code, response.headers, b"", stream=response)
        try:
            body = Body(response.status_code, response.headers, self._max_body, deadline)
            for chunk in response.iter_raw():
                if not body.add(chunk):
                    break
        finally:
            response.close()
            self._received(response, started)
        return _reply(response, body, started)

    async def _aperform(self, step: Request | float) -> Reply | None:
        if isinstance(step, float):
            await asyncio.sleep(step)
            return None
        process, deadline = self._begin(step)
        client = process.async_client(self._options)
        started = time.monotonic()
        response = await client.send(_built(client, step), stream=True)
        if step.streamed and response.is_success:
            return Reply(response.status_code, response.headers, b"", stream=response)
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
            self._received(response, started)
        return _reply(response, body, started)


class _Process:
    """What a forked child must not share with its parent: sockets and their lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
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


def _reply(response: httpx.Response, body: Body, started: float) -> Reply:
    moved = response.next_request
    content = body.content()
    if response.is_success and "content-encoding" in response.headers:
        content = body.unpacked(_unpacking(response, content))
    return Reply(
        response.status_code,
        response.headers,
        content,
        None if moved is None else str(moved.url),
        time.monotonic() - started,
    )


def _unpacking(response: httpx.Response, packed: bytes) -> Iterator[bytes]:
    """Undo the content encoding piece by piece, so that a small body cannot become a huge one."""
    import httpx

    if response.headers["content-encoding"].strip().lower() in ("gzip", "x-gzip"):
        return _gunzipped(packed)
    pieces = (packed[at : at + PIECE] for at in range(0, len(packed), PIECE))
    return httpx.Response(200, headers=response.headers, content=pieces).iter_bytes()


def _gunzipped(packed: bytes) -> Iterator[bytes]:
    """Unpack gzip to its very end: that it broke off is nothing that httpx would tell."""
    import zlib

    import httpx

    member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        for at in range(0, len(packed), PIECE):
            rest = packed[at : at + PIECE]
            while rest:
                if member.eof:
                    member = zlib.decompressobj(zlib.MAX_WBITS | 16)
                yield member.decompress(rest, PIECE)
                rest = member.unused_data if member.eof else member.unconsumed_tail
        yield member.flush()
    except zlib.error as error:
        raise httpx.DecodingError(str(error)) from error
    if packed and not member.eof:
        raise httpx.DecodingError("the gzip body ends too early")


def _import_httpx() -> None:
    try:
        import httpx  # noqa: F401  # only to say at once that it is missing
    except ImportError as error:
        raise ImportError("an HTTP origin needs httpx: pip install hybridcore[http]") from error


def _positive(option: str, duration: Duration) -> float:
    limit = seconds(duration)
    if not 0 < limit < threading.TIMEOUT_MAX:
        raise ConfigurationError(f"{option} is expected to be over 0 and finite, got {duration!r}")
    return limit
