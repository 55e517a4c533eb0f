"""What an HTTP reply says of how it may be cached: RFC 9111, and RFC 5861 on stale copies."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from hybridcore.errors import OriginError
from hybridcore.origins import http_rules as rules
from hybridcore.types import Loaded, NotFound, NotModified, Validators

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hybridcore.origins.http_rules import Reply, Request
    from hybridcore.types import Answer

LONGEST_GUESS = 86400.0
"""Seconds; a lifetime that nobody named is guessed no longer."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a reply may be kept: see `Loaded` and `Validators`."""

    ttl: float | None = None
    stale: float | None = None
    store: bool = True
    must_revalidate: bool = False


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """Which cache the headers are read for.

    Args:
        from_headers: whether they count at all.
        shared: whether it is one for several users, as of RFC 9111: ``s-maxage`` and
            ``proxy-revalidate`` count, and ``private`` is not stored.
        authorized: whether requests carry ``Authorization``: a shared cache stores their replies
            only where ``public``, ``s-maxage`` or ``must-revalidate`` allow it.
        heuristic: share of the time since ``Last-Modified`` that is the lifetime of a reply that
            names none; 0: the cache's own ttl counts.
    """

    from_headers: bool = True
    shared: bool = False
    authorized: bool = False
    heuristic: float = 0.0

    def terms(self, reply: Reply, held: Validators | None = None) -> Terms:
        """Return how a reply, or the copy held that it renews, may be kept.

        >>> headers = {"cache-control": "max-age=60, stale-if-error=300", "age": "10"}
        >>> CachePolicy().terms(rules.Reply(200, headers, b""))
        Terms(ttl=50.0, stale=300.0, store=True, must_revalidate=False)
        """
        if not self.from_headers:
            return Terms()
        said = directives(reply.headers.get("cache-control", ""))
        if not self._may_store(said):
            return Terms(0.0, 0.0, store=False)
        can_check = held is not None or rules.validators(reply.headers) is not None
        varies = "*" in [name.strip() for name in reply.headers.get("vary", "").split(",")]
        if varies or said.get("no-cache") == "":
            return Terms(0.0, None if can_check else 0.0, store=can_check, must_revalidate=True)
        lifetime = self._lifetime(reply.headers, said)
        ttl = None if lifetime is None else max(0.0, lifetime - _age(reply))
        if "must-revalidate" in said or (
            self.shared and {"proxy-revalidate", "s-maxage"} & {*said}
        ):
            return Terms(ttl, None if can_check else 0.0, must_revalidate=True)
        return Terms(ttl, _stale(said))

    def _may_store(self, said: Mapping[str, str]) -> bool:
        if "no-store" in said:
            return False
        if not self.shared:
            return True
        allowed = {"public", "s-maxage", "must-revalidate"} & {*said}
        return said.get("private") != "" and (not self.authorized or bool(allowed))

    def _lifetime(self, headers: Mapping[str, str], said: Mapping[str, str]) -> float | None:
        """Seconds from the making of a reply until it is stale, None if it does not say."""
        for name in ("s-maxage", "max-age") if self.shared else ("max-age",):
            if name in said:
                return rules.number(said[name]) or 0.0  # one that means nothing is stale
        made = rules.timestamp(headers.get("date", "")) or time.time()
        if "expires" in headers:
            return max(0.0, (rules.timestamp(headers["expires"]) or 0.0) - made)
        changed = rules.timestamp(headers.get("last-modified", ""))
        if self.heuristic and changed is not None:
            return min(max(0.0, made - changed) * self.heuristic, LONGEST_GUESS)
        return None


def directives(cache_control: str) -> dict[str, str]:
    """Return the directives with their arguments, "" where there is none; the first one counts.

    >>> directives('Max-Age="60", private="a, b", no-store, max-age=1')
    {'max-age': '60', 'private': 'a, b', 'no-store': ''}
    """
    from urllib.request import parse_http_list

    said: dict[str, str] = {}
    for part in parse_http_list(cache_control):
        name, _, argument = part.partition("=")
        said.setdefault(name.strip(' \t"').lower(), argument.strip(' \t"'))
    return said


def answer(
    request: Request,
    reply: Reply,
    held: Validators | None,
    decode: Callable[[bytes, str], Any],
    policy: CachePolicy,
) -> Answer[Any]:
    """Return what the reply to a load says about the key."""
    if reply.status == HTTPStatus.NOT_MODIFIED and held is not None:
        terms = policy.terms(reply, held)
        return NotModified(terms.ttl, _renewed(held, reply, terms), terms.stale, terms.store)
    terms = policy.terms(reply)
    if reply.status in rules.MISSING:
        return NotFound(terms.ttl)
    value = decoded(request, reply, decode)
    marks = rules.validators(reply.headers)
    if marks is not None and terms.must_revalidate:
        marks = replace(marks, must_revalidate=True)
    return Loaded(value, terms.ttl, marks, stale=terms.stale, store=terms.store)


def decoded(request: Request, reply: Reply, decode: Callable[[bytes, str], Any]) -> Any:
    """Return the value in a reply.

    Raises:
        OriginError: it is no success, or its body is not what its headers say.
    """
    rules.check_success(request, reply)
    try:
        return decode(reply.body, reply.headers.get("content-type", ""))
    except (ValueError, RecursionError) as error:  # msgspec raises both
        raise OriginError(f"{request} answered with a body that is damaged: {error}") from error


def _renewed(held: Validators, reply: Reply, terms: Terms) -> Validators | None:
    """The validators from now on, of which a 304 replaces those it has; None if they stay."""
    sent = rules.validators(reply.headers) or Validators()
    renewed = Validators(
        sent.etag or held.etag,
        sent.last_modified or held.last_modified,
        must_revalidate=terms.must_revalidate
        if "cache-control" in reply.headers
        else held.must_revalidate,
    )
    same = Validators(
        held.etag, held.last_modified, must_revalidate=held.must_revalidate
    )  # a copy comes along with those of a loader
    return None if renewed == same else renewed


def _age(reply: Reply) -> float:
    """Seconds since the reply was made: those it says, and those it took to come (4.2.3)."""
    said = reply.headers.get("age", "").partition(",")[0]
    return (rules.number(said) or 0.0) + reply.seconds


def _stale(said: Mapping[str, str]) -> float | None:
    """Seconds for which it may be served past its lifetime, None if it does not say (RFC 5861)."""
    allowed = [
        rules.number(said[name]) or 0.0
        for name in ("stale-while-revalidate", "stale-if-error")
        if name in said
    ]
    return max(allowed, default=None)
