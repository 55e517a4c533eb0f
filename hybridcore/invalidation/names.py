"""Caches in memory alone that a name keeps in step, over a directory with a log and no data."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ConfigurationError
from hybridcore.invalidation.coherence import Follower, SharedCoherence

if TYPE_CHECKING:
    from hybridcore.disk import Lmdb
    from hybridcore.invalidation.retention import Retention
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def directory_of(name: str) -> Path:
    """Where the caches of this user and host that have a name find each other.

    Raises:
        ConfigurationError: it is no name for a directory.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            "coherent is expected to be a name of letters, digits and . _ -, "
            f"at most 100 of them, got {name!r}"
        )
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and Path(base).is_dir():
        return Path(base) / "hybridcore" / name
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"hybridcore-{user}" / name


class NamedCoherence(SharedCoherence):
    """What is invalidated in any process that has a cache of the same name.

    Each change is a transaction of its own, as there is no data that it goes along with.
    """

    def __init__(self, follower: Follower, name: str, retention: Retention | None = None) -> None:
        from hybridcore.disk import Lmdb

        self._home: Lmdb[Any, Any] = Lmdb(directory_of(name), max_bytes="8MiB", sweep=None)
        try:
            super().__init__(follower, self._home._environment, retention)
            self.generation.minds_loads = True
        except BaseException:
            self._home.close()
            raise

    def close(self) -> None:
        super().close()
        self._home.close()
