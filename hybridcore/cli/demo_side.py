"""Beside demo origins that speak no HTTP of ours: where they are, and what they served."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.applications import Starlette


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def side_application(address: str, served: Callable[[], dict[str, Any]]) -> Starlette:
    """Answers ``/_address`` and ``/_stats``."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, PlainTextResponse
    from starlette.routing import Route

    def tell_address(request: Any) -> PlainTextResponse:
        return PlainTextResponse(address)

    def tell_served(request: Any) -> JSONResponse:
        return JSONResponse(served())

    return Starlette(routes=[Route("/_address", tell_address), Route("/_stats", tell_served)])


def address_of(url: str) -> str:
    """Where the origin is that has this side."""
    import httpx

    return httpx.get(f"{url}/_address").raise_for_status().text
