"""Where values come from when no tier holds them: a function, an HTTP service, guarded or not."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hybridcore.origins.base import Origin
from hybridcore.origins.callable import CallableOrigin
from hybridcore.origins.context import LoadContext
from hybridcore.origins.loaders import Loaders
from hybridcore.origins.usage import Meter

if TYPE_CHECKING:
    from hybridcore.origins.cache import CacheOrigin
    from hybridcore.origins.fallback import FallbackOrigin
    from hybridcore.origins.github import GitHubOrigin
    from hybridcore.origins.guarded import Guard, GuardedOrigin
    from hybridcore.origins.http import HttpOrigin
    from hybridcore.origins.object_store import ObjectStoreOrigin
    from hybridcore.origins.redis import RedisOrigin
    from hybridcore.origins.sharded import ShardedOrigin
    from hybridcore.origins.sql import SqlOrigin

__all__ = [
    "CacheOrigin",
    "CallableOrigin",
    "FallbackOrigin",
    "GitHubOrigin",
    "Guard",
    "GuardedOrigin",
    "HttpOrigin",
    "LoadContext",
    "Loaders",
    "Meter",
    "ObjectStoreOrigin",
    "Origin",
    "RedisOrigin",
    "ShardedOrigin",
    "SqlOrigin",
]

_LAZY = {
    "CacheOrigin": "cache",
    "FallbackOrigin": "fallback",
    "GitHubOrigin": "github",
    "Guard": "guarded",
    "GuardedOrigin": "guarded",
    "HttpOrigin": "http",
    "ObjectStoreOrigin": "object_store",
    "RedisOrigin": "redis",
    "ShardedOrigin": "sharded",
    "SqlOrigin": "sql",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
