"""A real HTTP service on loopback whose every reply a test decides, faults included."""

from __future__ import annotations

import asyncio
import copy
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from hybridcore.origins import HttpOrigin, ObjectStoreOrigin

from .s3_server import S3, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Exchange(BaseHTTPRequestHandler):
    """One request and the means to answer it, or to break off in the middle."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    service: Service
    body: bytes

    def reply(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        """Answer properly; underscores in header names stand for dashes."""
        self.send_response(status)
        if status != 304:
            headers.setdefault("Content_Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def raw(self, data: bytes) -> None:
        """Send exactly these bytes and end the connection."""
        self.wfile.write(data)
        self.close_connection = True

    def handle_method(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.service.seen.append(copy.copy(self))  # one handler serves a whole connection
        if "Host" not in self.headers:
            self.reply(400)
        self.service.handler(self)

    do_GET = do_PUT = do_DELETE = handle_method

    def log_message(self, *args: object) -> None:
        pass


@dataclass
class Service:
    """What answers (``handler``) and what was asked (``seen``)."""

    url: str = ""
    handler: Callable[[Exchange], None] = Exchange.reply
    seen: list[Exchange] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def in_turn(self, *handlers: Callable[[Exchange], None]) -> None:
        """Let each request be answered by the next handler, and the rest by the last."""
        self.handler = lambda exchange: handlers[min(len(self.seen), len(handlers)) - 1](exchange)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up early is what several tests are about."""


@contextmanager
def running_service() -> Iterator[Service]:
    """Start a service and stop it."""
    service = Service()
    server = _Server(("127.0.0.1", 0), type("Bound", (Exchange,), {"service": service}))
    service.url = f"http://127.0.0.1:{server.server_port}/base/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield service
    service.stopping.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    with running_service() as service:
        yield service


class Face:
    """Calls a method of an origin in one of its two faces."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop

    def __call__(self, origin: Any, method: str, *args: Any) -> Any:
        if self.loop is None:
            return getattr(origin, method)(*args)
        return self.loop.run_until_complete(getattr(origin, f"a{method}")(*args))


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Iterator[Face]:
    if request.param == "sync":
        yield Face(None)
        return
    loop = asyncio.new_event_loop()
    yield Face(loop)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def make(service: Service, call: Face) -> Iterator[Callable[..., HttpOrigin[Any]]]:
    """Make origins of the service, closed when the test ends."""
    made = []

    def make(base: str | None = None, **options: Any) -> HttpOrigin[Any]:
        origin: HttpOrigin[Any] = HttpOrigin(base or service.url, **options)
        made.append(origin)
        return origin

    yield make
    for origin in made:
        call(origin, "close")


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    with running() as service:
        yield service


@pytest.fixture
def open_s3(s3: S3) -> Callable[..., ObjectStoreOrigin]:
    """Make origins of one bucket."""
    bucket = s3.make_bucket()

    def make(prefix: str = "deep/prefix", **options: Any) -> ObjectStoreOrigin:
        more = {"options": s3.options, "writable": True, "retries": 0} | options
        return ObjectStoreOrigin(f"s3://{bucket}/{prefix}", **more)

    return make


def gather(pieces):
    """What an async iterator gives."""

    async def all_of_it():
        return [piece async for piece in pieces]

    return all_of_it()
