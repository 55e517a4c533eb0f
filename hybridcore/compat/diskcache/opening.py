"""How a cache is opened: its settings, its directory, and the disk tier behind it."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridcore.compat.diskcache.core import (
    DEFAULT_SETTINGS,
    ENOVAL,
    EVICTION_POLICY,
    SYNCED,
    UNBOUNDED,
    check_disk,
    refuse_original,
)
from hybridcore.errors import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Self

    from hybridcore.codec import Codecs
    from hybridcore.disk.tier import Lmdb

_OF_THE_TIER = ("size_limit", "eviction_policy", "sqlite_synchronous")
_SMALLEST = 128 * 1024
"""Bytes; the disk tier takes no smaller bound."""


class Opened:
    """A directory with settings; its tier is opened at first, and again when used after close()."""

    def __init__(
        self,
        directory: str | os.PathLike[str] | None,
        timeout: float,
        disk: object,
        codecs: Codecs | None,
        pickle_key: bytes | None,
        settings: dict[str, Any],
    ) -> None:
        from hybridcore.codec import Codecs

        check_disk(disk)
        if codecs is not None and pickle_key is not None:
            raise ConfigurationError("give pickle_key to Codecs(...) where you give codecs")
        self._codecs = Codecs(pickle_key=pickle_key) if codecs is None else codecs
        self._pickle_key = pickle_key
        self._own_codecs = codecs
        self._timeout = timeout
        self._settings = dict(DEFAULT_SETTINGS)
        for name, value in settings.items():
            self._set(name, value)
        if directory is None:
            directory = tempfile.mkdtemp(prefix="hybridcore-")
        self._directory = os.path.expandvars(os.path.expanduser(os.fspath(directory)))
        refuse_original(self._directory)
        self._open_tier: Lmdb[Any, Any] | None = None
        self._lock = threading.Lock()
        self._entered = 0
        self._counts = {"hits": 0, "misses": 0}
        self._counting = bool(self._settings["statistics"])
        self._tier  # noqa: B018  # opens it, so that what is wrong is told here

    @property
    def directory(self) -> str:
        """Where the entries are."""
        return self._directory

    @property
    def timeout(self) -> float:
        """As it was given; nothing times out here."""
        return self._timeout

    def reset(self, key: str, value: Any = ENOVAL, update: bool = True) -> Any:
        """Return a setting, or change it for this object."""
        if value is not ENOVAL:
            if key in ("hits", "misses"):
                with self._lock:
                    self._counts[key] = value
            elif key not in ("count", "size"):
                self._set(key, value)
                self._counting = bool(self._settings["statistics"])
                if key in _OF_THE_TIER:
                    self.close()
        return getattr(self, key)

    def close(self) -> None:
        """Close the directory for all threads; using the cache again opens it again."""
        with self._lock:
            tier, self._open_tier = self._open_tier, None
        if tier is not None:
            tier.close()

    def __getattr__(self, name: str) -> Any:
        settings = self.__dict__.get("_settings", {})
        if name in settings:
            return settings[name]
        if name in ("hits", "misses"):
            return self._counts[name]
        if name == "count":
            return len(self._tier)
        if name == "size":
            return self._tier.stats().used_bytes
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __enter__(self) -> Self:
        with self._lock:
            self._entered += 1
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._lock:
            self._entered -= 1
            last = self._entered == 0
        if last:
            self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        options = self._settings | {
            "timeout": self._timeout,
            "codecs": self._own_codecs,
            "pickle_key": self._pickle_key,
        }
        return _reopened, (type(self), self._directory, options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._directory!r})"

    @property
    def _tier(self) -> Lmdb[Any, Any]:
        tier = self._open_tier
        if tier is None:
            with self._lock:
                if self._open_tier is None:
                    self._open_tier = self._opened()
                tier = self._open_tier
        return tier

    def _opened(self) -> Lmdb[Any, Any]:
        from hybridcore.disk import Lmdb

        policy = self._settings["eviction_policy"]
        limit = max(self._settings["size_limit"], _SMALLEST)
        if policy == "none":
            limit = UNBOUNDED
            _spare_marks(Path(self._directory).absolute())
        weights = None if policy == "least-recently-stored" else EVICTION_POLICY[policy]
        synced = self._settings["sqlite_synchronous"] >= SYNCED
        return Lmdb(
            self._directory,
            max_bytes=limit,
            codecs=self._codecs,
            weights=weights,
            durability="power" if synced else "process",
        )

    def _set(self, name: str, value: Any) -> None:
        if name not in DEFAULT_SETTINGS:
            raise ConfigurationError(
                f"a setting is expected to be one of {', '.join(DEFAULT_SETTINGS)}, got {name!r}"
            )
        if name == "eviction_policy" and value not in EVICTION_POLICY:
            raise ConfigurationError(
                f"eviction_policy is expected to be one of {', '.join(EVICTION_POLICY)}, "
                f"got {value!r}"
            )
        self._settings[name] = value


def _spare_marks(directory: Path) -> None:
    """Make the table of marks small: the tier would take 256 MiB for so large a bound.

    Marks tell eviction what was read, and nothing is evicted here.
    """
    from hybridcore.disk.directory import prepare
    from hybridcore.disk.marks import open_marks

    prepare(directory)
    open_marks(directory, 0)


def _reopened(kind: type[Any], directory: str, options: dict[str, Any]) -> Any:
    return kind(directory, **options)
