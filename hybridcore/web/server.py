"""`serve`: the dashboard on an address of its own, until the process is told to end."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import uvicorn
from starlette.concurrency import run_in_threadpool

from hybridcore.web.application import application

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
    page = application(watcher, token=token, hosts=[host, *hosts])
    with _listening(host, port) as listening:
        config = uvicorn.Config(
            page,
            access_log=False,
            limit_concurrency=100,
            log_level="error",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            ws="none",
        )
        found = listening.getsockname()[:2]
        name = f"[{found[0]}]" if ":" in found[0] else found[0]
        on_ready(f"http://{name}:{found[1]}/")
        _Server(config, watcher).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends the streams of events when it is told to end, so that it need not wait for them."""

    def __init__(self, config: uvicorn.Config, watcher: Watcher) -> None:
        super().__init__(config)
        self._watcher = watcher

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await run_in_threadpool(self._watcher.close)
        await super().shutdown(sockets)


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
