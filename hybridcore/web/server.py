"""`serve`, `serving`: the dashboard on an address of its own, alone or beside other work."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.concurrency import run_in_threadpool

from hybridcore.web.application import application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from hybridcore.monitoring.watcher import Watcher


def serve(
    watcher: Watcher,
    host: str,
    port: int,
    *,
    token: str | None,
    hosts: Iterable[str],
    on_ready: Callable[[str], object],
) -> None:
    """Serve the page until SIGINT or SIGTERM; ``on_ready`` is told its address.

    Raises:
        ConfigurationError: the token could be guessed.
        OSError: the address cannot be had.
    """
    server = _Server(watcher, token=token, hosts=[host, *hosts])
    with _listening(host, port) as listening:
        on_ready(_address(listening))
        server.run(sockets=[listening])


@contextmanager
def serving(watcher: Watcher, host: str, port: int) -> Iterator[str]:
    """Serve the page of a loopback address in a thread; gives its address.

    Raises:
        OSError: the address cannot be had.
    """
    server = _Server(watcher, hosts=[host])
    with _listening(host, port) as listening:
        thread = Thread(
            target=server.run,
            kwargs={"sockets": [listening]},
            name="hybridcore-page",
            daemon=True,
        )
        thread.start()
        try:
            yield _address(listening)
        finally:
            server.should_exit = True
            thread.join()


class _Server(uvicorn.Server):
    """Ends the streams of events when it is told to end, so that it need not wait for them."""

    def __init__(self, watcher: Watcher, **gate: Any) -> None:
        config = uvicorn.Config(
            application(watcher, **gate),
            access_log=False,
            limit_concurrency=100,
            log_level="error",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            ws="none",
        )
        super().__init__(config)
        self._watcher = watcher

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await run_in_threadpool(self._watcher.close)
        await super().shutdown(sockets)


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/"


def _listening(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening
