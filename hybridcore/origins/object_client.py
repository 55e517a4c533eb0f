"""The way to an object store: opened by URL, its failures as ours, its traffic metered."""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hybridcore.errors import (
    ClosedError,
    ConfigurationError,
    ConflictError,
    HybridCoreError,
    NotFoundError,
    OriginError,
    OriginTimeoutError,
    OriginUnavailableError,
)
from hybridcore.origins.usage import Meter
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from obstore.store import ObjectStore

SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl", "file", "memory")
WITHOUT_CLIENT = ("file", "memory")
"""Schemes of stores that are here, and so take no options of a client."""
LONGEST_BACKOFF = 5.0
"""Seconds between two tries at most."""

_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "bucket does not exist")
"""How S3, Azure and Google say that there is none."""
_STATUS = re.compile(r"status code: (\d{3})")


class ObjectClient:
    """An object store, whose calls are made within `calling`.

    Args:
        url: see `ObjectStoreOrigin`, as for the rest.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str | None,
        options: Mapping[str, Any] | None,
        client_options: Mapping[str, Any] | None,
        credentials: Callable[[], Any] | None,
        timeout: Duration,
        total_timeout: Duration,
        retries: int,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES:
            raise ConfigurationError(
                f"the URL of an object store is expected to begin with one of {', '.join(SCHEMES)} "
                f"and ://, got {parts.scheme or 'none'}"
            )
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ConfigurationError(
                "the URL of an object store is expected to name a bucket and a prefix alone: "
                "credentials and the like are given as options="
            )
        if retries < 0:
            raise ConfigurationError(f"retries is expected to be at least 0, got {retries}")
        self.scheme = parts.scheme
        self.name = name or f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self.meter = Meter()
        self.store: ObjectStore = _opened(
            url, parts.scheme, options, client_options, credentials, timeout, total_timeout, retries
        )
        self._closed = False

    def close(self) -> None:
        """Refuse further calls; connections are closed when the store is let go."""
        self._closed = True

    @contextmanager
    def calling(self, method: str, key: str, calls: int = 1) -> Iterator[Call]:
        """A call, or with ``calls=0`` one more step of it: counted and timed.

        What it raises becomes an error of ours, without what the store said in full.

        Raises:
            OriginError: the call failed.
        """
        if self._closed:
            raise ClosedError(f"{self.name} is closed")
        _stay_in_one_process(self.name)
        call = Call()
        started = time.monotonic()
        failure: Exception | None = None
        try:
            yield call
        except HybridCoreError as error:
            failure = error
            raise
        except Exception as error:
            failure = _failure(f"{method} {self.name}/{key}", error)
            raise failure from None  # what the store says may show more than may be seen
        finally:
            if isinstance(failure, NotFoundError):
                failure = None  # an answer
            self.meter.record(
                time.monotonic() - started,
                calls=calls,
                bytes_in=call.bytes_in,
                bytes_out=call.bytes_out,
                not_modified=call.not_modified,
                error=failure,
            )


class Call:
    """What a call under way is counted with."""

    __slots__ = ("bytes_in", "bytes_out", "not_modified")

    def __init__(self) -> None:
        self.bytes_in = self.bytes_out = self.not_modified = 0


def is_missing(error: Exception) -> bool:
    """Whether an error says that there is no such object, where its bucket is there."""
    there = not any(code in str(error) for code in _NO_BUCKET)
    return isinstance(error, FileNotFoundError) and there


def path_of(key: object) -> str:
    """Return a key as the path of an object below the prefix.

    Raises:
        OriginError: it is none, or could mean another key, too.
    """
    if not isinstance(key, str):
        raise OriginError(
            f"a key of an object store is expected to be a str, got {type(key).__name__}"
        )
    if any(part in ("", ".", "..") for part in key.split("/")) or not key.isprintable():
        raise OriginError(
            f"key {key!r} is no name of an object: it is expected to be of printable parts with / "
            "between them, none of which is empty or '.' or '..'"
        )
    return key


def _opened(
    url: str,
    scheme: str,
    options: Mapping[str, Any] | None,
    client_options: Mapping[str, Any] | None,
    credentials: Callable[[], Any] | None,
    timeout: Duration,
    total_timeout: Duration,
    retries: int,
) -> ObjectStore:
    try:
        from obstore import store as stores
    except ImportError as error:
        raise ImportError(
            "an object store origin needs obstore: pip install hybridcore[objects]"
        ) from error
    given: dict[str, Any] = dict(options or {})
    if scheme == "memory" and (given or urlsplit(url).path.strip("/") or urlsplit(url).netloc):
        raise ConfigurationError("memory:// takes no prefix and no options")
    if scheme == "file" and not set(given) <= {"mkdir", "automatic_cleanup"}:
        raise ConfigurationError("file:// takes the options mkdir and automatic_cleanup alone")
    more: dict[str, Any] = {}
    if scheme not in WITHOUT_CLIENT:
        patience = timedelta(seconds=_positive("timeout", timeout))
        endpoint = str(given.get("endpoint") or given.get("aws_endpoint_url_s3") or "")
        more["client_options"] = {
            "connect_timeout": patience,
            "read_timeout": patience,
            "timeout": timedelta(seconds=_positive("total_timeout", total_timeout)),
            "user_agent": "hybridcore",
            **({"allow_http": True} if endpoint.startswith("http://") else {}),
            **(client_options or {}),
        }
        more["retry_config"] = {
            "max_retries": retries,
            "backoff": {"max_backoff": timedelta(seconds=LONGEST_BACKOFF)},
        }
        if credentials is not None:
            more["credential_provider"] = credentials
    try:
        opened: ObjectStore = stores.from_url(url, **given, **more)
    except Exception as error:
        if type(error).__name__ in ("UnknownConfigurationKeyError", "ValueError"):
            # these name the option, and nothing of its value
            reason = str(error).partition("\n")[0]
        else:
            reason = "an option is missing or malformed, or the directory does not exist"
        raise ConfigurationError(f"{scheme}:// was not opened: {reason}") from None
    return opened


def _failure(what: str, error: Exception) -> Exception:
    """The error of ours that says what an error of obstore means, and none of its details."""
    from obstore import exceptions

    text = str(error)
    found = _STATUS.search(text)
    status = f" ({found[1]})" if found else ""
    if isinstance(error, FileNotFoundError):
        if what.startswith("GET") and is_missing(error):
            return NotFoundError(f"{what} answered that there is no such object")
        return OriginError(f"{what} failed{status}: there is no such bucket, directory or upload")
    if isinstance(error, (exceptions.PreconditionError, exceptions.AlreadyExistsError)):
        return ConflictError(
            f"{what} met another version than the one expected: nothing was written. Load it again "
            "and decide anew"
        )
    refused = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
    if isinstance(error, refused) or (found and found[1] in ("401", "403")):
        return OriginError(f"{what} was refused for the credentials given{status}")
    if isinstance(error, NotImplementedError):
        return OriginError(f"{what} is nothing that this kind of store can do")
    if isinstance(error, (exceptions.GenericError, exceptions.JoinError)):
        if "kind: Timeout" in text or "TimedOut" in text:
            return OriginTimeoutError(f"{what} did not answer in time")
        if found is None or found[1] in ("408", "429") or found[1] >= "500":
            return OriginUnavailableError(f"{what} failed{status}")
    return OriginError(f"{what} failed{status}: {type(error).__name__}")


_process: list[int] = []
"""The process whose threads obstore has started, if it has."""


def _stay_in_one_process(name: str) -> None:
    """Refuse in a forked child what would wait for threads that only its parent has."""
    if not _process:
        _process.append(os.getpid())
    elif _process[0] != os.getpid():
        raise OriginError(
            f"{name} cannot be used in a process forked after an object store was used: fork "
            "before that, or start processes by spawn or forkserver"
        )


def _positive(option: str, duration: Duration) -> float:
    limit = seconds(duration)
    if not 0 < limit < 1e9:
        raise ConfigurationError(f"{option} is expected to be over 0 and finite, got {duration!r}")
    return limit
