"""`diskcache` over `hybridcore.Lmdb`: ``from hybridcore.compat import diskcache``.

>>> from hybridcore.compat import diskcache
>>> with diskcache.Cache("cache") as cache:
...     cache.set("key", "value", expire=60, tag="words"), cache.get("key", tag=True)
(True, ('value', 'words'))
"""

from hybridcore.compat.diskcache.cache import Cache
from hybridcore.compat.diskcache.core import (
    DEFAULT_SETTINGS,
    ENOVAL,
    EVICTION_POLICY,
    UNKNOWN,
    Disk,
    EmptyDirWarning,
    JSONDisk,
    Timeout,
    UnknownFileWarning,
)
from hybridcore.compat.diskcache.deque import Deque
from hybridcore.compat.diskcache.fanout import FanoutCache
from hybridcore.compat.diskcache.index import Index
from hybridcore.compat.diskcache.migration import Migrated, migrate
from hybridcore.compat.diskcache.recipes import (
    Averager,
    BoundedSemaphore,
    Lock,
    RLock,
    barrier,
    memoize_stampede,
    throttle,
)

__all__ = [
    "DEFAULT_SETTINGS",
    "ENOVAL",
    "EVICTION_POLICY",
    "UNKNOWN",
    "Averager",
    "BoundedSemaphore",
    "Cache",
    "Deque",
    "Disk",
    "EmptyDirWarning",
    "FanoutCache",
    "Index",
    "JSONDisk",
    "Lock",
    "Migrated",
    "RLock",
    "Timeout",
    "UnknownFileWarning",
    "barrier",
    "memoize_stampede",
    "migrate",
    "throttle",
]
