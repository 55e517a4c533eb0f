"""A small HTTP service to cache: a real process with latency, ETags, lifetimes and a rate limit.

``python -m hybridcore.cli.demo_origin --port 0`` prints its port as its first line and serves
``GET /v/KEY`` on loopback until SIGTERM, or until its standard input ends when that was asked
for. Everything is drawn from the seed: the body and lifetime of a key from the key, the
latency of a request from its number. ``GET /_stats`` counts what was served.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import hashlib
import json
import math
import os
import random
import signal
import socket
import threading
import time
from dataclasses import asdict, dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

LARGEST = 1 << 20
"""Bytes; no body is larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the service serves; the same on both sides of the wire, so that bytes can be checked.

    ``latency``      median seconds before a reply; log-normal with ``latency_sigma``
    ``size``         median bytes of a body; log-normal with ``size_sigma``
    ``max_age``      seconds for which most keys are fresh
    ``brief_age``    seconds for which a ``brief_share`` of the keys is fresh
    ``rate``         requests a second; more are answered 429. None: no limit
    ``keys``         only 0 up to here exist, others are 404. None: every key exists
    """

    seed: int = 1
    latency: float = 0.005
    latency_sigma: float = 0.5
    size: int = 4096
    size_sigma: float = 0.8
    max_age: int = 3600
    brief_age: int = 2
    brief_share: float = 0.1
    rate: float | None = None
    keys: int | None = None

    def body(self, key: str) -> bytes:
        """Return the bytes of a key."""
        draw = random.Random(f"{self.seed} size {key}")
        size = int(draw.lognormvariate(math.log(self.size), self.size_sigma))
        return hashlib.shake_128(f"{self.seed} body {key}".encode()).digest(min(size, LARGEST))

    def fresh_for(self, key: str) -> int:
        """Return the seconds for which a key is fresh."""
        brief = random.Random(f"{self.seed} age {key}").random() < self.brief_share
        return self.brief_age if brief else self.max_age

    def delay(self, number: int) -> float:
        """Return the seconds that a request waits, by its number."""
        if self.latency == 0:
            return 0.0
        draw = random.Random(f"{self.seed} delay {number}")
        return draw.lognormvariate(math.log(self.latency), self.latency_sigma)

    def exists(self, key: str) -> bool:
        """Whether there is such a key."""
        return self.keys is None or (key.isdecimal() and int(key) < self.keys)


@dataclass(slots=True)
class Served:
    """What was served so far; ``bytes`` are those of bodies, ``quota`` the units spent, if any."""

    requests: int = 0
    ok: int = 0
    not_modified: int = 0
    not_found: int = 0
    limited: int = 0
    bytes: int = 0
    quota: int = 0


class TokenBucket:
    """Lets ``rate`` requests a second pass, and after a pause one second's worth at once."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.tokens = max(1.0, rate)
        self.filled = time.monotonic()

    def wait(self) -> float:
        """Take a token, or return the seconds until there is one."""
        now = time.monotonic()
        self.tokens = min(max(1.0, self.rate), self.tokens + (now - self.filled) * self.rate)
        self.filled = now
        if self.tokens >= 1:
            self.tokens -= 1
            return 0.0
        return (1 - self.tokens) / self.rate


def application(service: Service) -> Starlette:
    """Return the service as an ASGI application."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    served = Served()
    bucket = TokenBucket(service.rate) if service.rate else None
    started = formatdate(usegmt=True)

    async def value(request: Request) -> Response:
        served.requests += 1
        await asyncio.sleep(service.delay(served.requests))
        if bucket is not None and (wait := bucket.wait()):
            served.limited += 1
            return Response(status_code=429, headers={"Retry-After": str(math.ceil(wait))})
        key = request.path_params["key"]
        if not service.exists(key):
            served.not_found += 1
            return Response(status_code=404)
        body, etag = content(key)
        headers = {
            "ETag": etag,
            "Last-Modified": started,
            "Cache-Control": f"max-age={service.fresh_for(key)}",
        }
        if request.headers.get("if-none-match") == etag:
            served.not_modified += 1
            return Response(status_code=304, headers=headers)
        served.ok += 1
        served.bytes += len(body)
        return Response(body, headers=headers, media_type="application/octet-stream")

    @functools.lru_cache(maxsize=10_000)
    def content(key: str) -> tuple[bytes, str]:
        body = service.body(key)
        return body, f'"{hashlib.blake2b(body, digest_size=8).hexdigest()}"'

    async def stats(request: Request) -> Response:
        return JSONResponse(asdict(served))

    return Starlette(routes=[Route("/v/{key:path}", value), Route("/_stats", stats)])


def listen(app: ASGIApp, port: int, *, until_stdin_ends: bool) -> None:
    """Serve an application on loopback until SIGTERM or SIGINT; port 0 takes a free one."""
    import uvicorn

    # asyncio sends small replies at once only on sockets that say that they are TCP
    with socket.socket(proto=socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(512)
        config = uvicorn.Config(
            app,
            log_level="error",
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        if until_stdin_ends:
            threading.Thread(target=_stop_with_stdin, daemon=True).start()
        print(listening.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listening])


def _stop_with_stdin() -> None:
    while os.read(0, 4096):  # not sys.stdin: a thread that holds its lock breaks the way out
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def arguments(module: str, about: str | None) -> argparse.ArgumentParser:
    """Return the parser of what every demo origin is told."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}", description=(about or "").partition("\n\n")[0]
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument(
        "--service",
        type=json.loads,
        default={},
        metavar="JSON",
        help=f"what it serves; any of {json.dumps(asdict(Service()))}",
    )
    parser.add_argument(
        "--until-stdin-ends", action="store_true", help="stop when standard input ends"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Serve as the command line says."""
    options = arguments("hybridcore.cli.demo_origin", __doc__).parse_args(argv)
    service = Service(**options.service)
    listen(application(service), options.port, until_stdin_ends=options.until_stdin_ends)


if __name__ == "__main__":
    main()
