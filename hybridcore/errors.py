"""Every error hybridcore raises::

    HybridCoreError
     +-- ConfigurationError (ValueError)    an option that makes no sense; nothing was opened
     +-- ValueTooLargeError (ValueError)    one entry is larger than the whole cache
     +-- KeyEncodingError (TypeError)       a key that the disk tier cannot store
     +-- EncodeError (TypeError)            a value that no codec can store
     +-- DecodeError (ValueError)           stored bytes that no codec can read
     +-- NotFoundError (KeyError)           the origin says there is no such key
     +-- ClosedError (RuntimeError)         used after close()
     +-- QueueFullError (RuntimeError)      as many writes as may wait for the origin do
     +-- DiskError (OSError)                the disk tier cannot work
     +-- OriginError                        the origin could not answer
          +-- OriginUnavailableError        refused, unreachable, 5xx, 429
          |    +-- BreakerOpenError         it failed before and is left alone for now
          |    +-- BulkheadFullError        it has as many calls as it may get
          +-- OriginTimeoutError (TimeoutError)
          +-- ReadOnlyOriginError           a write to an origin that takes none
          +-- ConflictError                 a write met a change of somebody else
          +-- PartialLoadError              get_many got some of the keys

Each is the builtin exception in parentheses as well.
"""

from __future__ import annotations

from typing import Any


class HybridCoreError(Exception):
    """Base of all errors of this package."""


class ConfigurationError(HybridCoreError, ValueError):
    """An option is unknown, malformed or contradicts another."""


class ValueTooLargeError(HybridCoreError, ValueError):
    """One entry is larger than the whole cache; nothing was changed."""


class KeyEncodingError(HybridCoreError, TypeError):
    """The key has no canonical byte form, so the disk tier cannot store it."""


class EncodeError(HybridCoreError, TypeError):
    """No codec can store the value; the message names the type and the way out."""


class DecodeError(HybridCoreError, ValueError):
    """Stored bytes cannot be read back. The tiers count it and treat it as a miss."""


class NotFoundError(HybridCoreError, KeyError):
    """The origin answered that the key does not exist. Loaders raise it to say so."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class ClosedError(HybridCoreError, RuntimeError):
    """The cache or tier was used after ``close()``."""


class QueueFullError(HybridCoreError, RuntimeError):
    """As many writes as may wait for the origin do; this one was not taken."""


class DiskError(HybridCoreError, OSError):
    """The disk tier cannot work: its directory, its format or the disk itself."""


class OriginError(HybridCoreError):
    """The origin could not answer; a stale copy may be served instead."""


class OriginUnavailableError(OriginError):
    """The origin refused, failed (5xx) or asked for patience (429).

    ``retry_after`` is the number of seconds it asked to be left alone, if it said so.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BreakerOpenError(OriginUnavailableError):
    """The origin failed before and was not asked; ``retry_after`` tells for how long."""


class BulkheadFullError(OriginUnavailableError):
    """The origin has as many calls as it may get, and was not asked."""


class OriginTimeoutError(OriginError, TimeoutError):
    """The origin did not answer in time."""


class ReadOnlyOriginError(OriginError):
    """The origin takes no writes."""


class ConflictError(OriginError):
    """The origin has another version than the one that the write started from; it was not made."""


class PartialLoadError(OriginError):
    """``get_many`` got some of the keys; ``found`` has them, ``errors`` says why not the others."""

    def __init__(self, found: dict[Any, Any], errors: dict[Any, Exception]) -> None:
        key, first = next(iter(errors.items()))
        super().__init__(
            f"{len(errors)} of {len(found) + len(errors)} keys could not be loaded, the first is "
            f"{key!r}: {first!r}. What was found is in .found, all errors are in .errors."
        )
        self.found = found
        self.errors = errors


class VersionConflictError(HybridCoreError):
    """The entry is not of the version that the write was meant for.

    ``expected`` and ``found`` are the versions, 0 where there is no entry.
    """

    def __init__(self, key: object, expected: int, found: int) -> None:
        super().__init__(
            f"{key!r} was expected to be of version {expected}, but is of {found}. Read it again "
            "and decide anew"
        )
        self.expected = expected
        self.found = found
