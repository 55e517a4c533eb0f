"""`app`: the dashboard as an ASGI application, to be mounted or served on its own."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from hybridcore.errors import ConfigurationError, HybridCoreError
from hybridcore.monitoring.watched import WatchedStore
from hybridcore.monitoring.watcher import Watcher
from hybridcore.web.gate import Gate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from starlette.requests import Request

    from hybridcore.hybrid import HybridCache
    from hybridcore.monitoring.alerts import Alerts
    from hybridcore.monitoring.view import CacheView
    from hybridcore.units import Duration

STATIC = Path(__file__).with_name("static")
_LONGEST = 15.0
"""Seconds after which a stream ends, and the page asks for the next: no server that stops waits
longer for it, and nobody is kept who has gone without a word."""
_MOST_ASKED = 4096
"""Bytes of a request to replay."""


def app(
    caches: Mapping[str, HybridCache[Any, Any]],
    *,
    alerts: Alerts | None = None,
    interval: Duration = "2s",
    token: str | None = None,
    hosts: Iterable[str] = (),
    trusted: bool = False,
) -> Starlette:
    """A live page of caches of this process, to be mounted in an ASGI application.

    The caches are looked at while somebody has the page open, and for a minute after; otherwise it
    costs nothing. Who may see it: see `hybridcore.web.gate.Gate`.

    Args:
        caches: by the name that is shown.
        alerts: whose alerts are shown.
        interval: between two looks.
        token: needed to see the page from other hosts.
        hosts: names by which it may be reached.
        trusted: whoever mounts it admits whom they want.

    Raises:
        ConfigurationError: options that make no sense.
    """
    if not caches:
        raise ConfigurationError("expected at least one cache, such as {'users': store}")
    watched = [WatchedStore(name, store) for name, store in caches.items()]
    watcher = Watcher(watched, interval=interval, alerts=alerts)
    return application(watcher, token=token, hosts=hosts, trusted=trusted)


def application(watcher: Watcher, **gate: Any) -> Starlette:
    """The application of a watcher, which is closed with it."""
    Gate(_nobody, **gate)  # refuses now what makes no sense, and not at the first request
    stream = _Stream(watcher)

    async def replay(request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > _MOST_ASKED:
                return JSONResponse({"error": "too much"}, 413)
        try:
            wanted = msgspec.json.decode(body, type=_Replay)
        except msgspec.DecodeError as error:
            return JSONResponse({"error": f"not understood: {error}"}, 400)
        try:
            count = await run_in_threadpool(_replay, watcher, wanted)
        except HybridCoreError as error:
            return JSONResponse({"error": str(error)}, 409)
        return JSONResponse({"replayed": count})

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(watcher.close)

    page = Starlette(
        routes=[
            Route("/", _page),
            Route("/events", stream.answer),
            Route("/replay", replay, methods=["POST"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(Gate, **gate)],
        lifespan=lifespan,
    )
    page.state.watcher = watcher
    return page


class _Replay(msgspec.Struct, forbid_unknown_fields=True):
    cache: str
    letter: int | None


class _Stream:
    """What the page hears: an event whenever the caches were looked at."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    async def answer(self, request: Request) -> Response:
        return StreamingResponse(
            self._events(request),
            media_type="text/event-stream",
            headers={"X-Accel-Buffering": "no"},
        )

    async def _events(self, request: Request) -> AsyncIterator[bytes]:
        watcher, loop = self._watcher, asyncio.get_running_loop()
        selected = request.query_params.get("cache", "")
        after = _moment(request.headers.get("last-event-id"))
        changed = asyncio.Event()
        changed.set()  # what was seen last is told at once
        unlisten = watcher.listen(lambda: loop.call_soon_threadsafe(changed.set))
        until = loop.time() + _LONGEST
        told: tuple[CacheView, ...] = ()
        try:
            yield b"retry: 500\n\n"
            while not watcher.closed and loop.time() < until:
                watcher.ask()
                try:
                    await asyncio.wait_for(changed.wait(), min(1.0, watcher.interval))
                except asyncio.TimeoutError:
                    if await request.is_disconnected():
                        return
                    continue
                changed.clear()
                views = watcher.views()
                if views and views is not told:  # a slow reader is told the newest only
                    told = views
                    event = _event(watcher, views, selected, after)
                    after = views[0].at
                    yield b"id: %.6f\ndata: %b\n\n" % (after, event)
        finally:
            unlisten()


async def _page(_: Request) -> Response:
    return FileResponse(STATIC / "index.html")


async def _nobody(*_: Any) -> None:
    """Answers nothing."""


def _event(watcher: Watcher, views: tuple[CacheView, ...], selected: str, after: float) -> bytes:
    shown = next((view for view in views if view.name == selected), views[0])
    return msgspec.json.encode(
        {
            "at": shown.at,
            "interval": watcher.interval,
            "caches": [_summary(view) for view in views],
            "cache": shown,
            "after": after,
            "points": watcher.points(shown.name, after),
        }
    )


def _summary(view: CacheView) -> dict[str, Any]:
    queue = view.queue
    return {
        "name": view.name,
        "state": view.state,
        "rate": view.rate,
        "hit_ratio": view.hit_ratio,
        "p99": view.p99,
        "waiting": None if queue is None else sum(level.items for level in queue.levels),
        "dead": None if queue is None else queue.dead,
        "alerts": len(view.alerts),
    }


def _replay(watcher: Watcher, wanted: _Replay) -> int:
    count = watcher.replay(wanted.cache, wanted.letter)
    watcher.look()
    return count


def _moment(text: str | None) -> float:
    """The time of the last event that a page has heard; 0 if it has heard none."""
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0
