"""The origin that is an HTTP service: one GET per load, ETags, and patience on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from hybridcore.errors import ConfigurationError
from hybridcore.origins import http_rules as rules
from hybridcore.origins.base import Origin
from hybridcore.origins.http_rules import Reply, Request
from hybridcore.origins.transport import HttpTransport, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from hybridcore.stats import OriginUsage
    from hybridcore.types import Answer, Validators
    from hybridcore.units import Duration, Size

K = TypeVar("K")


class HttpOrigin(Origin[K, Any]):
    """Loads the value of a key with ``GET base_url/key``.

    200 is the value, 304 renews the copy held, 404 and 410 say that there is no such key.
    Connection failures, 5xx, 429 and 408 raise `OriginUnavailableError`, exceeded times
    `OriginTimeoutError`, everything else `OriginError`. When the service names a time
    (``Retry-After``), no request of this origin is sent before it: short waits are waited
    out, longer ones fail at once.

    Needs httpx: ``pip install hybridcore[http]``. Threads share one client; each event loop
    has its own; a forked child starts anew.

    Args:
        base_url: every key lives below it; redirects elsewhere are refused.
        timeout: for a connection, and for each wait for data.
        total_timeout: for one whole reply, so that a trickle ends too.
        headers: sent with each request; never shown in a repr or error.
        max_body: larger values are refused while they arrive.
        retries: how often a GET is tried again after a failure that may pass.
        max_wait: the longest time that one call spends waiting between its tries.
        max_connections: open at once; also how many keys ``load_many`` asks for at a time.
        ttl_from_headers: whether ``Cache-Control`` overrides the cache's own ttl.
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
        ttl_from_headers: bool = True,
        key_to_path: Callable[[K], str] | None = None,
        decode: Callable[[bytes, str], Any] = rules.decode_by_type,
        encode: Callable[[Any], tuple[bytes, str]] = rules.encode_by_type,
        writable: bool = False,
        name: str | None = None,
    ) -> None:
        self._transport = HttpTransport(
            base_url,
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
        self._ttl_from_headers = ttl_from_headers
        self._key_to_path = key_to_path or rules.path_of
        self._decode = decode
        self._encode = encode
        self._writable = writable

    def load(self, key: K, held: Validators | None = None) -> Answer[Any]:
        return self._transport.run(self._loading(key, held))

    async def aload(self, key: K, held: Validators | None = None) -> Answer[Any]:
        return await self._transport.arun(self._loading(key, held))

    async def aload_many(self, keys: Iterable[K]) -> dict[K, Answer[Any] | Exception]:
        return await self._at_once(keys)

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
            return rules.answer(request, reply, held, self._decode, self._ttl_from_headers)

        return (yield from self._transport.exchange(request, answer, self._retries))

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
        return rules.address(self._transport.base, self._key_to_path(key))
