"""Where values come from when no tier holds them: a function, an HTTP service, guarded or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hybridcore.origins.base import Origin
from hybridcore.origins.callable import CallableOrigin
from hybridcore.origins.context import LoadContext
from hybridcore.origins.loaders import Loaders

if TYPE_CHECKING:
    from hybridcore.origins.guarded import Guard, GuardedOrigin
    from hybridcore.origins.http import HttpOrigin, HttpStats

__all__ = [
    "CallableOrigin",
    "Guard",
    "GuardedOrigin",
    "HttpOrigin",
    "HttpStats",
    "LoadContext",
    "Loaders",
    "Origin",
]


def __getattr__(name: str) -> Any:
    if name in ("HttpOrigin", "HttpStats"):
        from hybridcore.origins import http

        return getattr(http, name)
    if name in ("Guard", "GuardedOrigin"):
        from hybridcore.origins import guarded

        return getattr(guarded, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
