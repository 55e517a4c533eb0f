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
    from hybridcore.invalidation.log import Txn

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

    def __init__(self, follower: Follower, name: str) -> None:
        from hybridcore.disk import Lmdb

        self._home: Lmdb[Any, Any] = Lmdb(directory_of(name), max_bytes="8MiB", sweep=None)
        try:
            super().__init__(follower, self._home._environment)
        except BaseException:
            self._home.close()
            raise

    def close(self) -> None:
        super().close()
        self._home.close()

    def change(
        self,
        key: Any,
        cause: str,
        *,
        since: int | None = None,
        tags: tuple[Any, ...] = (),
        depends_on: tuple[Any, ...] = (),
    ) -> NamedChange:
        return NamedChange(self, key, cause, since, depends_on)

    def invalidate_dependents(self, key: Any, cause: str) -> None:
        """Tell the others of a change of a key, and invalidate what depends on it."""
        form = self._encode(key)

        def work(txn: Txn) -> int:
            self.bind()
            depended = self.log.is_depended_on(txn, form)
            tags = (self._tag_of_key(form),) if depended else ()
            return self.append(txn, "key", keys=(form,), tags=tags, cause=cause)

        self.announce(self._environment.write(work))

    def depend(self, keys: Any) -> None:
        forms = [self._encode(key) for key in keys]

        def work(txn: Txn) -> None:
            self.bind()
            self.log.depend(txn, forms)

        if forms:
            self._environment.write(work)


class NamedChange:
    """What a change of a key does where memory is all there is."""

    off = False

    def __init__(
        self,
        coherence: NamedCoherence,
        key: Any,
        cause: str,
        since: int | None,
        depends_on: tuple[Any, ...],
    ) -> None:
        self._coherence = coherence
        self._key = key
        self._cause = cause
        self._since = since
        self._depends_on = depends_on

    def announce(self) -> None:
        """After it was made: a load is no change that others have to hear of."""
        self._coherence.depend(self._depends_on)
        if self._since is None:
            self._coherence.invalidate_dependents(self._key, self._cause)

    def may_be(self, txn: Any, /) -> bool:
        """Whether the change may be."""
        return True

    def made(self, txn: Any, version: int, /, *, is_new: bool, differs: bool) -> None:
        """It was made on disk."""
