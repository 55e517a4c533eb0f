"""The rules of the HTTP origin as plain functions: which address a key has, what a reply means."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from hybridcore.errors import (
    ConfigurationError,
    OriginError,
    OriginTimeoutError,
    OriginUnavailableError,
)
from hybridcore.types import Validators

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import httpx

MISSING = (404, 410)
"""Statuses that say: there is no such key."""

LONGEST_QUIET = 3600.0
"""Seconds; an origin that asks to be left alone for longer is asked again after these."""

FARTHEST = 1e10
"""Numbers in headers are read as no larger than this."""

EPOCH = 1_000_000_000
"""A rate limit's reset from here on is a point in time, below it a number of seconds."""

DRAINED = 65536
"""Bytes of an error's body that are read so that its connection can be used again."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as the rules want it sent; who asks for a ``streamed`` one reads the body."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes = b""
    streamed: bool = False

    def __str__(self) -> str:
        """Method and address without what may be secret: user, password, query, headers."""
        parts = urlsplit(self.url)
        return f"{self.method} {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass(frozen=True, slots=True)
class Reply:
    """One complete reply; ``redirect`` is the address it sends us to, if it does.

    Of a streamed success the body is yet to be read from ``stream``.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    redirect: str | None = None
    seconds: float = 0.0
    """From the request until it was complete."""
    stream: httpx.Response | None = None


class Body:
    """Collects the body of a reply as it arrives, and refuses what is too long or too slow."""

    def __init__(
        self, status: int, headers: Mapping[str, str], max_body: int, deadline: float
    ) -> None:
        self._wanted = 200 <= status < 300
        self._limit = max_body if self._wanted else DRAINED
        self._deadline = deadline
        self._data = bytearray()
        length = headers.get("content-length", "")
        if length.isdecimal():
            self._check(int(length))

    def add(self, chunk: bytes) -> bool:
        """Take one more piece; False says that the rest is not worth reading.

        Raises:
            OriginError: the body is over the limit.
            OriginTimeoutError: it is not complete and its time is up.
        """
        if time.monotonic() > self._deadline:
            raise OriginTimeoutError("the body did not arrive in time")
        self._check(len(self._data) + len(chunk))
        self._data += chunk
        return self._wanted or len(self._data) < self._limit

    def content(self) -> bytes:
        """Return what arrived."""
        return bytes(self._data)

    def unpacked(self, pieces: Iterable[bytes]) -> bytes:
        """Return the pieces together.

        Raises:
            OriginError: they are over the limit.
        """
        data = bytearray()
        for piece in pieces:
            self._check(len(data) + len(piece))
            data += piece
        return bytes(data)

    def _check(self, length: int) -> None:
        if self._wanted and length > self._limit:
            raise OriginError(f"the body is over max_body={self._limit} bytes")


def checked_base(base_url: str) -> SplitResult:
    """Return the parts of the base address, its path ending in ``/``.

    Raises:
        ConfigurationError: not an http(s) address, or one with a query or fragment.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
        raise ConfigurationError(
            "base_url is expected to be http://host/path or https://host/path without a query, "
            f"got {shown.geturl()!r}"
        )
    return parts._replace(path=parts.path.rstrip("/") + "/")


def checked_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return a copy of the headers.

    Raises:
        ConfigurationError: a name or value that cannot be sent; values are never shown.
    """
    checked = dict(headers or {})
    for name, value in checked.items():
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise ConfigurationError(f"header {name!r} has a value that is not printable ASCII")
    return checked


def path_of(key: object) -> str:
    """Return the path of a key: percent-encoded, ``/`` kept.

    >>> path_of("docs/a b?.md")
    'docs/a%20b%3F.md'
    """
    if not isinstance(key, str):
        raise OriginError(
            f"a key of an HTTP origin is expected to be a str, got {type(key).__name__}: "
            "give key_to_path= to make paths of other keys"
        )
    try:
        return quote(key, safe="/")
    except UnicodeEncodeError as error:
        raise OriginError(f"key {key!r} has no UTF-8 form, so it has no address") from error


def address(base: SplitResult, path: str) -> str:
    """Return the address of a path below the base.

    Raises:
        OriginError: the path would lead out of the base, or has characters to be encoded.
    """
    if not path.isascii() or not path.isprintable() or " " in path:
        raise OriginError(f"path {path!r} is expected to be percent-encoded")
    segments = unquote(path.partition("?")[0]).replace("\\", "/").split("/")
    if "." in segments or ".." in segments:
        raise OriginError(f"path {path!r} leads out of its place: it has a segment '.' or '..'")
    return base.geturl() + path


def same_service(base: SplitResult, target: str) -> bool:
    """Whether an address is on the scheme, host and port of the base."""
    ports = {"http": 80, "https": 443}
    other = urlsplit(target)
    return (base.scheme, base.hostname, base.port or ports.get(base.scheme)) == (
        other.scheme,
        other.hostname,
        other.port or ports.get(other.scheme),
    )


def conditions(held: Validators | None) -> dict[str, str]:
    """Return the headers that ask only for what differs from the copy held."""
    sent = {}
    if held is not None and held.etag is not None:
        sent["If-None-Match"] = held.etag
    if held is not None and held.last_modified is not None:
        sent["If-Modified-Since"] = held.last_modified
    return sent


def check_available(request: Request, reply: Reply) -> None:
    """Raise `OriginUnavailableError` for 5xx, 408, 429, and a 403 that is a rate limit."""
    patience = retry_after(reply.headers)
    limited = reply.status == 403 and patience is not None
    if reply.status >= 500 or reply.status in (408, 429) or limited:
        raise OriginUnavailableError(_answered(request, reply), retry_after=patience)


def check_success(request: Request, reply: Reply) -> None:
    """Raise `OriginError` unless the reply is a complete success."""
    if not 200 <= reply.status < 300 or reply.status == HTTPStatus.PARTIAL_CONTENT:
        raise OriginError(_answered(request, reply))


def validators(headers: Mapping[str, str]) -> Validators | None:
    """Return the reply's validators, if it has any."""
    etag, last_modified = headers.get("etag"), headers.get("last-modified")
    return Validators(etag, last_modified) if etag or last_modified else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds for which the origin asks to be left alone, or None.

    Reads ``Retry-After`` (seconds or a date), else ``X-RateLimit-Reset`` when nothing remains.
    Dates are measured from the reply's own ``Date``, so that clocks need not agree.
    """
    now = timestamp(headers.get("date", "")) or time.time()
    asked = headers.get("retry-after", "")
    wait = number(asked)
    if wait is None:
        until = timestamp(asked)
        if until is None and headers.get("x-ratelimit-remaining", "").strip() == "0":
            reset = number(headers.get("x-ratelimit-reset", ""))
            until = now + reset if reset is not None and reset < EPOCH else reset
        wait = None if until is None else until - now
    return None if wait is None else min(max(0.0, wait), LONGEST_QUIET)


def decode_by_type(body: bytes, content_type: str) -> Any:
    """Return JSON parsed, text as str, anything else as bytes.

    Raises:
        ValueError: the body is not what its type says.
    """
    media, _, parameters = content_type.partition(";")
    media = media.strip().lower()
    if media == "application/json" or media.endswith("+json"):
        import msgspec

        return msgspec.json.decode(body)
    if media.startswith("text/"):
        _, _, charset = parameters.partition("charset=")
        try:
            return body.decode(charset.partition(";")[0].strip(' "') or "utf-8")
        except LookupError as error:
            raise ValueError(f"unknown charset in {content_type!r}") from error
    return body


def encode_by_type(value: Any) -> tuple[bytes, str]:
    """Return the body and content type of a value: bytes and str as they are, the rest JSON."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value), "application/octet-stream"
    if isinstance(value, str):
        return value.encode(), "text/plain; charset=utf-8"
    import msgspec

    return msgspec.json.encode(value), "application/json"


def _answered(request: Request, reply: Reply) -> str:
    try:
        phrase = f" {HTTPStatus(reply.status).phrase}"
    except ValueError:
        phrase = ""
    return f"{request} answered {reply.status}{phrase}"


def number(text: str) -> float | None:
    """Return the number that a header says, None if it is none that counts something."""
    text = text.strip()
    return min(float(text), FARTHEST) if text.isascii() and text.isdigit() else None


def timestamp(date: str) -> float | None:
    """Return a header's date in seconds since the epoch, None if it is no date."""
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError):
        return None
    return moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp()
