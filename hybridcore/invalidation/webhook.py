"""`Webhook`: an ASGI application that takes the webhooks of GitHub, and others signed that way."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from hybridcore.errors import ConfigurationError
from hybridcore.logs import RateLimitedLog, raised_by
from hybridcore.units import Duration, Size, seconds, size_in_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hybridcore.invalidation.handlers import Handlers

log = RateLimitedLog(logging.getLogger("hybridcore"))

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_FEWEST_BYTES = 16
"""Of a secret; a shorter one can be found by trying."""


class Webhook:
    """Publishes what is posted to it, if it is signed.

    The event's name is ``prefix`` and the ``X-GitHub-Event`` header: ``"github.push"``. It answers
    204 when everything that the event invalidates is invalidated, 200 if that was done before, and
    500 if a handler failed, so that the sender tries again. Everything else is refused before it
    is parsed: 401 without a valid ``X-Hub-Signature-256``, 413 beyond ``max_bytes``.

    GitHub signs the body and nothing else. So a body counts as seen whatever delivery id comes with
    it, and its age is what the body says.

    Args:
        handlers: what events are given to.
        secrets: that bodies may be signed with; several while one is being replaced.
        max_bytes: of a body.
        max_age: of an event whose body tells when it was; None: any.
        sent_at: returns when a payload was sent, in seconds since the epoch, None if it does not
            tell; by default ``repository.pushed_at`` of a push.
        prefix: of the names of events.

    Raises:
        ConfigurationError: a secret is too short, or there is none.
    """

    def __init__(
        self,
        handlers: Handlers,
        secrets: Iterable[str | bytes],
        *,
        max_bytes: Size = "25MiB",
        max_age: Duration | None = "1h",
        sent_at: Callable[[Any], float | None] | None = None,
        prefix: str = "github.",
    ) -> None:
        self._secrets = [
            secret.encode() if isinstance(secret, str) else secret for secret in secrets
        ]
        if not self._secrets or min(map(len, self._secrets)) < _FEWEST_BYTES:
            raise ConfigurationError(
                f"a webhook needs a secret of at least {_FEWEST_BYTES} bytes; make one with "
                "secrets.token_hex(32)"
            )
        self._handlers = handlers
        self._max_bytes = size_in_bytes(max_bytes)
        self._max_age = None if max_age is None else seconds(max_age)
        self._sent_at = _pushed_at if sent_at is None else sent_at
        self._prefix = prefix

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request; the lifespan and websockets of ASGI are none."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await _no_lifespan(receive, send)
            return
        status = await self._answer(scope, receive)
        headers = [(b"content-length", b"0")]
        if status == 405:
            headers.append((b"allow", b"POST"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive) -> int:
        if scope["method"] != "POST":
            return 405
        headers = {name.lower(): value for name, value in scope["headers"]}
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max_bytes:
            return 413
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return 400
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                return 413
            if not message.get("more_body"):
                break
        if not self._is_signed(bytes(body), headers.get(b"x-hub-signature-256", b"")):
            return 401
        name = headers.get(b"x-github-event", b"").decode("latin-1")
        return await asyncio.to_thread(self._handle, name, bytes(body))

    def _is_signed(self, body: bytes, signature: bytes) -> bool:
        """Whether it is, found out in a time that does not depend on by how much it is not."""
        signed = False
        for secret in self._secrets:
            expected = b"sha256=" + hmac.new(secret, body, sha256).hexdigest().encode()
            signed |= hmac.compare_digest(expected, signature)
        return signed

    def _handle(self, name: str, body: bytes) -> int:
        from msgspec import DecodeError
        from msgspec.json import decode

        try:
            payload = decode(body)
        except (DecodeError, UnicodeDecodeError):
            return 415  # form-encoded, or no JSON at all
        if not name:
            return 400
        try:
            sent_at = self._sent_at(payload)
            if (
                sent_at is not None
                and self._max_age is not None
                and time.time() - sent_at > self._max_age
            ):
                return 403
            handled = self._handlers.publish(
                self._prefix + name, payload, sha256(name.encode() + b"\0" + body).hexdigest()
            )
        except Exception as error:
            log.warning("a webhook was not handled: %s", raised_by(error))
            return 500
        return 204 if handled else 200


def _pushed_at(payload: Any) -> float | None:
    """When a push was, None for other events."""
    if not isinstance(payload, dict) or not isinstance(payload.get("repository"), dict):
        return None
    at = payload["repository"].get("pushed_at")
    return float(at) if isinstance(at, int) and "after" in payload else None


async def _no_lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
