"""The origins that a replay may have, each a process of its own on loopback."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hybridcore import GitHubOrigin, HttpOrigin
from hybridcore.cli.demo_github import REPO, TOKEN, file_of
from hybridcore.cli.demo_s3 import ACCESS, BUCKET, object_of
from hybridcore.cli.demo_side import address_of
from hybridcore.origins import Origin
from hybridcore.origins.github_quota import Limits
from hybridcore.types import Loaded, NotModified

if TYPE_CHECKING:
    from collections.abc import Callable

    from hybridcore.cli.demo_origin import Service
    from hybridcore.stats import OriginUsage
    from hybridcore.types import Answer, Validators

UNBOUNDED = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Demo:
    """One kind of origin.

    - ``module``: its process
    - ``named``: the name that a key of the trace has there
    - ``open``: makes the origin of its address, for so many workers
    - ``tells_ttl``: whether it tells for how long its values are fresh
    """

    module: str
    named: Callable[[str], str]
    open: Callable[[str, int], Origin[str, Any]]
    tells_ttl: bool


def _http(url: str, workers: int) -> Origin[str, Any]:
    return HttpOrigin(f"{url}/v/", retries=5, max_wait="30s", max_connections=workers)


def _github(url: str, workers: int) -> Origin[str, Any]:
    return GitHubOrigin(
        REPO,
        token=TOKEN,
        base_url=url,
        retries=5,
        max_wait="30s",
        max_connections=workers,
        limits=Limits(UNBOUNDED, UNBOUNDED, concurrent=UNBOUNDED),
    )


def _redis(url: str, workers: int) -> Origin[str, Any]:
    from hybridcore import RedisOrigin

    return RedisOrigin(address_of(url), max_connections=workers)


def _s3(url: str, workers: int) -> Origin[str, Any]:
    from hybridcore import ObjectStoreOrigin

    return ObjectStoreOrigin(
        f"s3://{BUCKET}",
        options={**ACCESS, "endpoint": address_of(url)},
        client_options={"allow_http": True},
        retries=5,
        max_connections=workers,
        decode=lambda body, kind: body,
    )


DEMOS = {
    "http": Demo("hybridcore.cli.demo_origin", str, _http, tells_ttl=True),
    "github-sim": Demo("hybridcore.cli.demo_github", file_of, _github, tells_ttl=False),
    "redis": Demo("hybridcore.cli.demo_redis", str, _redis, tells_ttl=False),
    "s3-sim": Demo("hybridcore.cli.demo_s3", object_of, _s3, tells_ttl=False),
}
"""By the name that ``--origin`` takes."""


class NotedOrigin(Origin[str, Any]):
    """The origin of a run: asked by the keys of the trace, and ``note`` hears what it answers.

    Where it tells no lifetimes its values live as long as those of the service.
    """

    def __init__(
        self, demo: Demo, url: str, workers: int, service: Service, note: Callable[[object], None]
    ) -> None:
        self._demo = demo
        self._origin = demo.open(url, workers)
        self._service = service
        self._note = note
        self.name = self._origin.name

    def load(self, key: str, held: Validators | None = None) -> Answer[Any]:
        answer = self._origin.load(self._demo.named(key), held)
        if not self._demo.tells_ttl and isinstance(answer, (Loaded, NotModified)):
            answer = replace(answer, ttl=float(self._service.fresh_for(key)))
        self._note(answer)
        return answer

    def usage(self) -> OriginUsage:
        usage = self._origin.usage()
        assert usage is not None
        return usage

    def close(self) -> None:
        self._origin.close()
