"""`Gate`: who is answered by the dashboard, and the headers that every answer has."""

from __future__ import annotations

import base64
import binascii
import hmac
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from hybridcore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_SHORTEST = 16
"""Characters of a token; what is shorter could be guessed."""
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Gate:
    """Middleware that answers only who may see the caches.

    Without a token that is who asks from this host, by a name of this host, and not through a
    proxy. A page of somebody else, for which a browser looks up a name that leads here (DNS
    rebinding), is refused by its name; what changes something is refused from any other page.

    Args:
        token: asked for with every request, as the password of HTTP Basic or as a bearer.
        hosts: names by which it may be reached, beside those of the loopback.
        trusted: whoever mounts it admits whom they want: neither token nor origin is looked at.

    Raises:
        ConfigurationError: the token could be guessed, or is not ASCII.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None = None,
        hosts: Iterable[str] = (),
        trusted: bool = False,
    ) -> None:
        if token is not None and (len(token) < _SHORTEST or not token.isascii()):
            raise ConfigurationError(
                f"a token of at least {_SHORTEST} ASCII characters is expected, such as "
                "python -c 'import secrets; print(secrets.token_urlsafe())' prints"
            )
        self._app, self._trusted = app, trusted
        self._token = None if token is None else token.encode()
        self._hosts = LOOPBACK | {host.lower().strip("[]") for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is allowed."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if not self._trusted:
            host = _name(headers.get("host", ""))
            if host is None or not self._is_ours(host):
                text = "This is not reached by that name; see hosts= and --allow-host.\n"
                return PlainTextResponse(text, 421)
            if self._token is None and not _is_direct(scope, headers):
                text = "Only this host is answered without a token; see token= and --token-file.\n"
                return PlainTextResponse(text, 403)
            if self._token is not None and not _has(self._token, headers):
                asked = {"WWW-Authenticate": 'Basic realm="hybridcore", charset="UTF-8"'}
                return PlainTextResponse("A token is needed, as the password.\n", 401, asked)
        if scope["method"] not in ("GET", "HEAD") and not _is_own_page(headers):
            return PlainTextResponse("Only the page itself may ask for this.\n", 403)
        return None

    def _is_ours(self, host: str) -> bool:
        if host in self._hosts:
            return True
        try:  # an address is no name that leads here today and elsewhere tomorrow
            ip_address(host)
        except ValueError:
            return False
        return self._token is not None


def is_loopback(host: str) -> bool:
    """Whether an address or name is only reached from this host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK


def _name(host: str) -> str | None:
    """The name or address in a header ``Host``; None if it is none."""
    try:
        split = urlsplit("//" + host)
        return None if split.netloc != host or "@" in host else split.hostname
    except ValueError:
        return None


def _is_direct(scope: Scope, headers: Headers) -> bool:
    """Whether a request comes from this host, and was not passed on by a proxy."""
    if any(name == "forwarded" or name.startswith("x-forwarded-") for name in headers):
        return False
    client = scope.get("client")
    return client is None or is_loopback(client[0])  # None: a Unix socket


def _has(token: bytes, headers: Headers) -> bool:
    scheme, _, given = headers.get("authorization", "").partition(" ")
    told = given.strip().encode()
    if scheme.lower() == "basic":
        try:
            told = base64.b64decode(told, validate=True).partition(b":")[2]
        except binascii.Error:
            return False
    elif scheme.lower() != "bearer":
        return False
    return hmac.compare_digest(told, token)


def _is_own_page(headers: Headers) -> bool:
    """Whether a request comes from the page: no other can set this header without being asked."""
    if headers.get("x-hybridcore") != "page":
        return False
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site == "same-origin"
    return origin is None or origin.partition("://")[2] == headers.get("host")
