"""The origin that is an HTTP service: a GET per load or for many keys, kept as RFC 9111 says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore.errors import ConfigurationError
from hybridcore.origins import http_caching
from hybridcore.origins import http_rules as rules
from hybridcore.origins.base import Origin, held_by_key
from hybridcore.origins.bulk import Bulk, Split
from hybridcore.origins.http_caching import CachePolicy
from hybridcore.origins.http_rules import Reply, Request
from hybridcore.origins.transport import HttpTransport, Steps
from hybridcore.origins.url_template import UrlTemplate
from hybridcore.types import Loaded, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hybridcore.patterns import Pattern
    from hybridcore.stats import OriginUsage
    from hybridcore.types import Answer, Validators
    from hybridcore.units import Duration, Size

K = TypeVar("K")


class HttpOrigin(Origin[K, Any]):
    """Loads the value of a key with ``GET base_url/key``, or with that of a URL template.

    200 is the value, 304 renews the copy held, 404 and 410 say that there is no such key. How
    long an answer is kept is what its headers say (RFC 9111), or else the cache's own ttl.
    Connection failures, 5xx, 429 and 408 raise `OriginUnavailableError`, exceeded times
    `OriginTimeoutError`, everything else `OriginError`. When the service names a time
    (``Retry-After``), no request of this origin is sent before it: short waits are waited
    out, longer ones fail at once.

    Needs httpx: ``pip install hybridcore[http]``. Threads share one client; each event loop
    has its own; a forked child starts anew.

    Args:
        base_url: every key lives below it; redirects elsewhere are refused. With fields it is a
            template: ``https://api.example.com/repos/{owner}/{name}``. A key is then the value of
            the field, a str or an int, or a tuple of the values of several.
        keys: a key pattern with the fields of the template, for keys that are written otherwise:
            ``"repo:{owner}/{name}"``.
        timeout: for a connection, and for each wait for data.
        total_timeout: for one whole reply, so that a trickle ends too.
        headers: sent with each request; never shown in a repr or error.
        max_body: larger values are refused while they arrive.
        retries: how often a GET is tried again after a failure that may pass.
        max_wait: the longest time that one call spends waiting between its tries.
        max_connections: open at once; also how many keys ``load_many`` asks for at a time.
        bulk: where many keys are asked for at once: an address with ``{keys}``, which become one
            text, each percent-encoded, separated by commas. ``load_many`` uses it.
        split: takes the decoded body of a bulk reply and the keys, and returns the values by key
            of those there are; or the name of the field that tells the items of a list apart. By
            default the body is a JSON object by key.
        bulk_size: how many keys one bulk request asks for.
        ttl_from_headers: whether the reply's headers override how long the cache keeps entries.
        shared: whether the cache serves several users, in the sense of RFC 9111: ``s-maxage``
            counts, and replies that are ``private`` or to an ``Authorization`` are not kept.
        heuristic: share of the time since ``Last-Modified`` for which a reply is fresh that names
            no time; 0: the cache's own ttl counts.
        key_to_path: makes the percent-encoded path (and query) of a key, for keys that are
            not str or not paths.
        decode: takes the body and its content type and returns the value. By default JSON is
            parsed, text is str, the rest bytes.
        encode: takes a value and returns the body and content type that ``store`` sends.
        writable: ``store`` is a PUT and ``delete`` a DELETE; otherwise both are refused.
        name: shown in errors; by default the host and path of ``base_url``.

    Raises:
        ImportError: httpx is not installed.
        ConfigurationError: an option makes no sense.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout: Duration = "10s",
        total_timeout: Duration = "1m",
        headers: Mapping[str, str] | None = None,
        max_body: Size = "64MiB",
        retries: int = 2,
        max_wait: Duration = "5s",
        max_connections: int = 32,
        keys: Pattern | None = None,
        bulk: str | None = None,
        split: Split | str | None = None,
        bulk_size: int = 100,
        ttl_from_headers: bool = True,
        shared: bool = False,
        heuristic: float = 0.0,
        key_to_path: Callable[[K], str] | None = None,
        decode: Callable[[bytes, str], Any] = rules.decode_by_type,
        encode: Callable[[Any], tuple[bytes, str]] = rules.encode_by_type,
        writable: bool = False,
        name: str | None = None,
    ) -> None:
        self._template = UrlTemplate(base_url, keys) if "{" in base_url else None
        if (keys is not None) > (self._template is not None):
            raise ConfigurationError("keys= needs fields in base_url, such as {name}")
        if key_to_path is not None and self._template is not None:
            raise ConfigurationError("key_to_path= and a URL template exclude each other")
        if not 0 <= heuristic <= 1:
            raise ConfigurationError(f"heuristic is expected to be from 0 to 1, got {heuristic}")
        self._transport = HttpTransport(
            base_url if self._template is None else self._template.base.geturl(),
            name=name,
            timeout=timeout,
            total_timeout=total_timeout,
            headers=headers,
            max_body=max_body,
            max_wait=max_wait,
            max_connections=max_connections,
        )
        if retries < 0:
            raise ConfigurationError(f"retries is expected to be at least 0, got {retries}")
        self.name = self._transport.name
        self.parallel = max_connections
        self._retries = retries
        base = self._transport.base
        self._bulk = None if bulk is None else Bulk(base, bulk, split, bulk_size)
        self._policy = CachePolicy(
            ttl_from_headers,
            shared,
            base.username is not None or any(h.lower() == "authorization" for h in headers or ()),
            heuristic,
        )
        self._key_to_path = key_to_path or rules.path_of
        self._decode = decode
        self._encode = encode
        self._writable = writable

    def load(self, key: K, held: Validators | None = None) -> Answer[Any]:
        return self._transport.run(self._loading(key, held))

    async def aload(self, key: K, held: Validators | None = None) -> Answer[Any]:
        return await self._transport.arun(self._loading(key, held))

    async def aload_many(self, keys: Iterable[K]) -> dict[K, Answer[Any] | Exception]:
        wanted = held_by_key(keys)
        if self._bulk is None or len(wanted) < 2:
            return await self._at_once(wanted)
        import asyncio

        slots = asyncio.Semaphore(self.parallel)
        answers: dict[K, Answer[Any] | Exception] = {}

        async def ask(chunk: list[K]) -> None:
            async with slots:
                try:
                    answers.update(await self._transport.arun(self._loading_many(chunk)))
                except Exception as error:  # one failing chunk must not lose the others
                    answers.update(dict.fromkeys(chunk, error))

        rest = list(wanted)
        size = self._bulk.size
        await asyncio.gather(*(ask(rest[at : at + size]) for at in range(0, len(rest), size)))
        return {key: answers[key] for key in rest}

    def store(self, key: K, value: Any) -> Validators | None:
        return self._transport.run(self._storing(key, value))

    async def astore(self, key: K, value: Any) -> Validators | None:
        return await self._transport.arun(self._storing(key, value))

    def delete(self, key: K) -> None:
        self._transport.run(self._deleting(key))

    async def adelete(self, key: K) -> None:
        await self._transport.arun(self._deleting(key))

    @property
    def writable(self) -> bool:
        return self._writable

    def usage(self) -> OriginUsage:
        return self._transport.meter.usage()

    def close(self) -> None:
        self._transport.close()

    async def aclose(self) -> None:
        await self._transport.aclose()

    def __repr__(self) -> str:
        return f"HttpOrigin({self.name})"

    # What to send and what the replies mean, the same for both faces.

    def _loading(self, key: K, held: Validators | None) -> Steps[Answer[Any]]:
        request = Request("GET", self._address(key), rules.conditions(held))

        def answer(reply: Reply) -> Answer[Any]:
            return http_caching.answer(request, reply, held, self._decode, self._policy)

        return (yield from self._transport.exchange(request, answer, self._retries))

    def _loading_many(self, keys: list[K]) -> Steps[dict[K, Answer[Any]]]:
        assert self._bulk is not None
        bulk = self._bulk
        request = Request("GET", bulk.address(keys), {})

        def answers(reply: Reply) -> dict[K, Answer[Any]]:
            body = http_caching.decoded(request, reply, self._decode)
            values = bulk.values(body, keys)
            terms = self._policy.terms(reply)
            missing = NotFound(terms.ttl)
            return {
                key: Loaded(values[key], terms.ttl, stale=terms.stale, store=terms.store)
                if key in values
                else missing
                for key in keys
            }

        return (yield from self._transport.exchange(request, answers, self._retries))

    def _storing(self, key: K, value: Any) -> Steps[Validators | None]:
        if not self._writable:
            raise self._read_only("give it writable=True")
        content, content_type = self._encode(value)
        request = Request("PUT", self._address(key), {"Content-Type": content_type}, content)

        def written(reply: Reply) -> Validators | None:
            rules.check_success(request, reply)
            return rules.validators(reply.headers)

        return (yield from self._transport.exchange(request, written, retries=0))

    def _deleting(self, key: K) -> Steps[None]:
        if not self._writable:
            raise self._read_only("give it writable=True")
        request = Request("DELETE", self._address(key), {})

        def deleted(reply: Reply) -> None:
            if reply.status not in rules.MISSING:
                rules.check_success(request, reply)

        return (yield from self._transport.exchange(request, deleted, retries=0))

    def _address(self, key: K) -> str:
        if self._template is not None:
            return self._template.address(key)
        return rules.address(self._transport.base, self._key_to_path(key))
