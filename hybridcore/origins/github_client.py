"""The way to GitHub: an HTTP transport that has the token and keeps within the limits."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore.errors import ConfigurationError, OriginError, OriginUnavailableError
from hybridcore.forks import start_afresh_after_forks
from hybridcore.origins import github_rules as rules
from hybridcore.origins.github_quota import Limits, Quota, units_of
from hybridcore.origins.http_rules import Reply, Request
from hybridcore.origins.transport import HttpTransport, Steps
from hybridcore.units import seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import httpx

T = TypeVar("T")


class Secret(str):
    """A text that is sent, and not shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Tokens:
    """The token of the moment: one that was given, or what a function returns when asked.

    The function is asked at first, and again when GitHub refuses what it returned.

    Args:
        token: the token, the function, None for the variable ``GITHUB_TOKEN``, "" for none.
    """

    def __init__(self, token: str | Callable[[], str] | None) -> None:
        if token is None:
            token = os.environ.get("GITHUB_TOKEN", "")
        self._ask = token if callable(token) else None
        self._token: Secret | None = None if callable(token) else _checked(token)
        self.start_afresh()
        start_afresh_after_forks(self)

    def start_afresh(self) -> None:
        self._lock = Lock()

    @property
    def some(self) -> bool:
        """Whether there is one."""
        return self._ask is not None or bool(self._token)

    def current(self, refused: str | None = None) -> Secret:
        """Return the token to send; of several callers who had one refused one asks for the next.

        Raises:
            OriginError: the function failed, or returned what is no token.
        """
        if self._ask is None:
            return self._token or Secret()
        with self._lock:
            if self._token is None or self._token == refused:
                try:
                    self._token = _checked(self._ask())
                except Exception as error:  # what it says may hold secrets
                    raise OriginError(
                        f"the function that gives the token failed: {type(error).__name__}"
                    ) from None
            return self._token


def _checked(token: object) -> Secret:
    if not isinstance(token, str) or not token.isascii() or not (token + "x").isprintable():
        raise ConfigurationError("token is expected to be printable ASCII")
    return Secret(token)


class GitHubClient(HttpTransport):
    """Carries talks with GitHub; what it is asked takes its turn, and is metered in quota.

    Args:
        token, reserve, limits: see `Tokens` and `Quota`.
        retries: of what may be repeated.
        options: those of `HttpTransport`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | Callable[[], str] | None,
        reserve: float,
        limits: Limits | None,
        retries: int,
        **options: Any,
    ) -> None:
        self.tokens = Tokens(token)
        super().__init__(base_url, check=rules.check_limits, **options)
        if retries < 0:
            raise ConfigurationError(f"retries is expected to be at least 0, got {retries}")
        self.retries = retries
        self.quota = Quota(self.meter, reserve, limits)
        self._patience = seconds(options.get("max_wait", "5s"))
        self.seen = False
        """Whether GitHub has shown the repository at least once."""

    def ask(self, request: Request, judge: Callable[[Reply], T], *, once: bool = False) -> Steps[T]:
        """Exchange a request for what the reply is judged to be, ``once`` for what changes things.

        Raises:
            OriginUnavailableError: GitHub cannot answer, or must not be asked for now.
        """
        talk = self.exchange(request, judge, 0 if once else self.retries)
        try:
            step = next(talk)
            while True:
                if isinstance(step, Request):
                    yield from self._turn(step)
                try:
                    outcome = yield from self._sent(step)
                except Exception as error:
                    step = talk.throw(error)
                else:
                    step = talk.send(outcome)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            talk.close()

    def _turn(self, request: Request) -> Steps[None]:
        try:
            yield from self.quota.place(request, self._patience)
        except OriginUnavailableError as error:
            self.meter.record(calls=0, error=error)
            raise

    def _sent(self, step: Request | float) -> Steps[Any]:
        if not isinstance(step, Request):
            yield step
            return None
        token = self.tokens.current()
        with self.quota.under_way(step):
            reply = yield from self._exchanged(step, token)
        if reply.status == 401 and (fresh := self.tokens.current(refused=token)) != token:
            yield from self._turn(step)
            with self.quota.under_way(step):
                reply = yield from self._exchanged(step, fresh)
        return reply

    def _exchanged(self, request: Request, token: Secret) -> Steps[Reply]:
        headers = {
            "Accept": rules.JSON,
            "X-GitHub-Api-Version": rules.API_VERSION,
            **request.headers,
        }
        if token:
            headers["Authorization"] = Secret(f"Bearer {token}")
        reply: Reply = yield Request(
            request.method, request.url, headers, request.content, request.streamed
        )
        self.seen = self.seen or (reply.status in (200, 304) and "/repos/" in request.url)
        self.quota.note(request, reply, units_of(request, reply, bool(token)))
        return reply


def pieces(response: httpx.Response) -> Iterator[bytes]:
    """Return the parts of a streamed body.

    Raises:
        OriginUnavailableError: it broke off.
    """
    import httpx

    try:
        yield from response.iter_raw()
    except httpx.HTTPError as error:
        raise OriginUnavailableError(f"the file broke off: {type(error).__name__}") from error


async def apieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """Twin of `pieces`."""
    import httpx

    try:
        async for piece in response.aiter_raw():
            yield piece
    except httpx.HTTPError as error:
        raise OriginUnavailableError(f"the file broke off: {type(error).__name__}") from error
