"""`Probes`: ``/livez``, ``/readyz`` and ``/healthz``, as an application of ASGI and of WSGI."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ConfigurationError
from hybridcore.logs import RateLimitedLog, raised_by

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping

    from hybridcore.hybrid import HybridCache
    from hybridcore.stats.health import Limits

log = RateLimitedLog(logging.getLogger("hybridcore"))

_REASONS = {200: "200 OK", 404: "404 Not Found", 405: "405 Method Not Allowed"}
_UNAVAILABLE = "503 Service Unavailable"


class Probes:
    """Tells an orchestrator whether to restart this process, and whether to send it requests.

    - ``/livez``: 503 when a cache was closed; looks at no tier, so a disk that hangs hangs no probe
    - ``/readyz``: 503 while a cache is not ready: down, or not yet warm
    - ``/healthz``: 503 when a cache is down; the body tells the tiers with their reasons

    The body is JSON with ``status`` and ``caches``. Mount `asgi` or `wsgi`; in both, paths are
    those below the mount.

    Args:
        caches: by name.
        limits: from where on a tier is degraded.
    """

    def __init__(
        self, caches: Mapping[str, HybridCache[Any, Any]], *, limits: Limits | None = None
    ) -> None:
        if not caches:
            raise ConfigurationError("expected at least one cache, by name")
        self._caches = dict(caches)
        self._limits = limits
        self._answers: dict[str, Callable[[], tuple[bool, dict[str, Any]]]] = {
            "/livez": self._live,
            "/readyz": self._ready,
            "/healthz": self._healthy,
        }

    async def asgi(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer a request of ASGI; others than those of HTTP are ended."""
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        if scope["type"] != "http":
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        status, body, headers = await asyncio.to_thread(self._answer, scope["method"], path)
        told = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": told})
        await send({"type": "http.response.body", "body": body})

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request of WSGI."""
        path = environ.get("PATH_INFO", "")
        status, body, headers = self._answer(environ["REQUEST_METHOD"], path)
        start_response(_REASONS.get(status, _UNAVAILABLE), headers)
        return [body]

    def _answer(self, method: str, path: str) -> tuple[int, bytes, list[tuple[str, str]]]:
        answer = self._answers.get("/" + path.strip("/"))
        headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        if answer is None:
            status, told = 404, {"error": f"there are {', '.join(self._answers)}"}
        elif method not in ("GET", "HEAD"):
            status, told = 405, {"error": "only GET and HEAD are answered"}
            headers.append(("Allow", "GET, HEAD"))
        else:
            try:
                good, told = answer()
            except Exception as error:
                log.warning("a probe failed: %s", raised_by(error), about=path)
                good, told = False, {"status": "down", "error": type(error).__name__}
            status = 200 if good else 503
        body = json.dumps(told).encode()
        headers.append(("Content-Length", str(len(body))))
        return status, b"" if method == "HEAD" else body, headers

    def _live(self) -> tuple[bool, dict[str, Any]]:
        states = {name: not cache.closed for name, cache in self._caches.items()}
        live = all(states.values())
        return live, {"status": "ok" if live else "down", "caches": states}

    def _ready(self) -> tuple[bool, dict[str, Any]]:
        states = {n: cache.health(self._limits).is_ready for n, cache in self._caches.items()}
        ready = all(states.values())
        return ready, {"status": "ok" if ready else "down", "caches": states}

    def _healthy(self) -> tuple[bool, dict[str, Any]]:
        found = {name: cache.health(self._limits) for name, cache in self._caches.items()}
        states = {health.state for health in found.values()}
        worst = next(state for state in ("down", "degraded", "ok") if state in states)
        told = {name: health.as_dict() for name, health in found.items()}
        return worst != "down", {"status": worst, "caches": told}
