"""hybridcore: a hybrid cache of compiled memory, shared disk and your origin.

Importing it loads the memory tier alone; everything else is loaded when it is first named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hybridcore._native import footprint_of
from hybridcore.errors import (
    BreakerOpenError,
    BulkheadFullError,
    ClosedError,
    ConfigurationError,
    ConflictError,
    DecodeError,
    DiskError,
    EncodeError,
    HybridCoreError,
    KeyEncodingError,
    NotFoundError,
    OriginError,
    OriginTimeoutError,
    OriginUnavailableError,
    PartialLoadError,
    QueueFullError,
    ReadOnlyOriginError,
    ValueTooLargeError,
    VersionConflictError,
)
from hybridcore.eviction import Adaptive, Tuning, Weights
from hybridcore.memory import Cache
from hybridcore.types import (
    CacheInfo,
    Entry,
    EvictionCause,
    Listener,
    Loaded,
    NotFound,
    NotModified,
    Tier,
    Validators,
)

if TYPE_CHECKING:
    from hybridcore.analytics import Analytics, Analyzer
    from hybridcore.breaker import Breaker
    from hybridcore.bulkhead import Bulkhead
    from hybridcore.codec import Codec, Codecs, Compression
    from hybridcore.config import EntryOptions, Memory
    from hybridcore.conflicts import Versioned
    from hybridcore.decorators import AsyncCached, Cached, cached, lru_cache
    from hybridcore.disk import Admission, Lmdb
    from hybridcore.events import Event, EventBus, EventKind
    from hybridcore.features import disable, disabled, enable, is_enabled
    from hybridcore.hybrid import HybridCache
    from hybridcore.invalidation.adaptive_ttl import AdaptiveTtl
    from hybridcore.invalidation.handlers import Invalidate
    from hybridcore.invalidation.redis_bus import RedisBus
    from hybridcore.invalidation.retention import Retention
    from hybridcore.origins import (
        CacheOrigin,
        CallableOrigin,
        FallbackOrigin,
        GitHubOrigin,
        Guard,
        GuardedOrigin,
        HttpOrigin,
        LoadContext,
        Loaders,
        ObjectStoreOrigin,
        Origin,
        RedisOrigin,
        ShardedOrigin,
        SqlOrigin,
    )
    from hybridcore.retry import Retry
    from hybridcore.write_queue import (
        DeadLetter,
        Delivery,
        MemoryQueue,
        Redelivery,
        WriteQueue,
        delivery_of,
        exit_on_sigterm,
    )

__version__ = "0.1.0"

_LAZY = {
    "Admission": "disk",
    "Analytics": "analytics",
    "Analyzer": "analytics",
    "AsyncCached": "decorators",
    "Cached": "decorators",
    "Breaker": "breaker",
    "Bulkhead": "bulkhead",
    "CacheOrigin": "origins",
    "CallableOrigin": "origins",
    "FallbackOrigin": "origins",
    "Codec": "codec",
    "Codecs": "codec",
    "Compression": "codec",
    "DeadLetter": "write_queue",
    "Delivery": "write_queue",
    "Redelivery": "write_queue",
    "WriteQueue": "write_queue",
    "delivery_of": "write_queue",
    "exit_on_sigterm": "write_queue",
    "EntryOptions": "config",
    "Event": "events",
    "EventBus": "events",
    "EventKind": "events",
    "GitHubOrigin": "origins",
    "Guard": "origins",
    "GuardedOrigin": "origins",
    "HttpOrigin": "origins",
    "HybridCache": "hybrid",
    "AdaptiveTtl": "invalidation.adaptive_ttl",
    "Retention": "invalidation.retention",
    "Versioned": "conflicts",
    "Invalidate": "invalidation.handlers",
    "RedisBus": "invalidation.redis_bus",
    "Lmdb": "disk",
    "LoadContext": "origins",
    "Loaders": "origins",
    "Memory": "config",
    "MemoryQueue": "write_queue",
    "ObjectStoreOrigin": "origins",
    "Origin": "origins",
    "RedisOrigin": "origins",
    "ShardedOrigin": "origins",
    "SqlOrigin": "origins",
    "Retry": "retry",
    "cached": "decorators",
    "disable": "features",
    "disabled": "features",
    "enable": "features",
    "is_enabled": "features",
    "lru_cache": "decorators",
}

__all__ = [
    "Adaptive",
    "AdaptiveTtl",
    "Admission",
    "Analytics",
    "Analyzer",
    "AsyncCached",
    "Breaker",
    "BreakerOpenError",
    "Bulkhead",
    "BulkheadFullError",
    "Cache",
    "CacheInfo",
    "CacheOrigin",
    "Cached",
    "CallableOrigin",
    "ClosedError",
    "Codec",
    "Codecs",
    "Compression",
    "ConfigurationError",
    "ConflictError",
    "DeadLetter",
    "DecodeError",
    "Delivery",
    "DiskError",
    "EncodeError",
    "Entry",
    "EntryOptions",
    "Event",
    "EventBus",
    "EventKind",
    "EvictionCause",
    "FallbackOrigin",
    "GitHubOrigin",
    "Guard",
    "GuardedOrigin",
    "HttpOrigin",
    "HybridCache",
    "HybridCoreError",
    "Invalidate",
    "KeyEncodingError",
    "Listener",
    "Lmdb",
    "LoadContext",
    "Loaded",
    "Loaders",
    "Memory",
    "MemoryQueue",
    "NotFound",
    "NotFoundError",
    "NotModified",
    "ObjectStoreOrigin",
    "Origin",
    "OriginError",
    "OriginTimeoutError",
    "OriginUnavailableError",
    "PartialLoadError",
    "QueueFullError",
    "ReadOnlyOriginError",
    "Redelivery",
    "RedisBus",
    "RedisOrigin",
    "Retention",
    "Retry",
    "ShardedOrigin",
    "SqlOrigin",
    "Tier",
    "Tuning",
    "Validators",
    "ValueTooLargeError",
    "VersionConflictError",
    "Versioned",
    "Weights",
    "WriteQueue",
    "cached",
    "delivery_of",
    "disable",
    "disabled",
    "enable",
    "exit_on_sigterm",
    "footprint_of",
    "is_enabled",
    "lru_cache",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
