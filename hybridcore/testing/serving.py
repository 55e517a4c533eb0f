"""Serves a simulated service on loopback while a block of code runs."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


class Answer(Protocol):
    """What a service answers; a body that comes in ``pieces`` is never in memory at once."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def pieces(self) -> Iterable[bytes] | None: ...


class Service(Protocol):
    """Something that answers requests, and wants to know how many there are at a time."""

    under_way: int

    def respond(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Answer:
        """Answer one request; ``headers`` by their names in lower case."""


@contextmanager
def serve(
    service: Service, port: int = 0, *, latency: Callable[[], float] | None = None
) -> Iterator[str]:
    """Serve it on loopback while the block runs; gives its address.

    Needs uvicorn. ``latency`` returns the seconds before an answer.
    """
    import uvicorn

    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(512)
        config = uvicorn.Config(
            application(service, latency),
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
            server_header=False,
            date_header=False,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def application(service: Service, latency: Callable[[], float] | None = None) -> Any:
    """Return it as an ASGI application, which waits for ``latency()`` before an answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        service.under_way += 1
        try:
            if latency is not None:
                await asyncio.sleep(latency())
            target = scope["raw_path"].decode()
            if scope["query_string"]:
                target += "?" + scope["query_string"].decode()
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            reply = service.respond(scope["method"], target, headers, body)
        finally:
            service.under_way -= 1
        sent = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": sent})
        for piece in reply.pieces or ():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": reply.body})

    return app
