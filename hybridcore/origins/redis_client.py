"""Clients of Redis and Valkey, of one server, by Sentinel or in a cluster; what errors mean."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hybridcore.errors import OriginError, OriginTimeoutError, OriginUnavailableError
from hybridcore.origins.clients import Clients

if TYPE_CHECKING:
    from hybridcore.origins.redis_url import RedisUrl

BACKOFF, LONGEST_BACKOFF = 0.02, 0.5
"""Seconds before a lost connection is tried again: at first, and at most."""

IDLE = 30
"""Seconds after which an idle connection is asked whether it lives before it is used."""

_PASSING = (
    "BUSY",
    "CLUSTERDOWN",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOREPLICAS",
    "OOM",
    "READONLY",
    "TRYAGAIN",
)
"""How replies begin that say that another time may be better."""


def clients(
    url: RedisUrl, name: str, *, timeout: float, retries: int, max_connections: int
) -> Clients[Any, Any]:
    """Clients that connect when they are first used."""
    make = partial(client, url, timeout=timeout, retries=retries, most=max_connections)
    return Clients(name, partial(make, "redis"), partial(make, "redis.asyncio"), _close, _aclose)


def client(
    url: RedisUrl, package: str, *, timeout: float, retries: int, most: int, protocol: int = 3
) -> Any:
    """A client of redis-py, of ``redis`` or of ``redis.asyncio``."""
    from redis.backoff import ExponentialWithJitterBackoff
    from redis.exceptions import ConnectionError as LostError
    from redis.maint_notifications import MaintNotificationsConfig

    def part(module: str) -> Any:
        return import_module(f"{package}.{module}")

    patience = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    backoff = ExponentialWithJitterBackoff(base=BACKOFF, cap=LONGEST_BACKOFF)
    options: dict[str, Any] = {
        **patience,
        **url.options,
        "protocol": protocol,
        "health_check_interval": IDLE,
        "retry": part("retry").Retry(backoff, retries, (LostError,)),
        "max_connections": most,
    }
    if package == "redis":  # asks servers for what only Redis Enterprise has
        options["maint_notifications_config"] = MaintNotificationsConfig(enabled=False)
    if url.kind == "single":
        pool = part("connection")
        kind = pool.UnixDomainSocketConnection
        if url.hosts:
            options["host"], options["port"] = url.hosts[0]
            kind = pool.SSLConnection if url.has_tls else pool.Connection
        return part("client").Redis.from_pool(
            pool.BlockingConnectionPool(timeout=timeout, connection_class=kind, **options)
        )
    if url.has_tls:
        options["ssl"] = patience["ssl"] = True
    if url.kind == "sentinel":
        sentinel = part("sentinel").Sentinel(url.hosts, sentinel_kwargs=patience)
        return sentinel.master_for(url.service, **options)
    cluster = part("cluster")
    nodes = [cluster.ClusterNode(host, port) for host, port in url.hosts]
    return cluster.RedisCluster(startup_nodes=nodes, **options)


def _close(client: Any) -> None:
    client.close()
    for watcher in _sentinels(client):
        watcher.close()


async def _aclose(client: Any) -> None:
    await client.aclose()
    for watcher in _sentinels(client):
        await watcher.aclose()


def _sentinels(client: Any) -> list[Any]:
    pool: Any = getattr(client, "connection_pool", None)
    return pool.sentinel_manager.sentinels if hasattr(pool, "sentinel_manager") else []


def translated(name: str, error: Exception) -> Exception:
    """The error of hybridcore that one of redis-py amounts to; others as they are.

    Replies are told by their first word: the rest may have keys and values in it.
    """
    from redis import exceptions

    if isinstance(error, exceptions.TimeoutError):
        return OriginTimeoutError(f"{name} did not answer in time")
    if isinstance(error, (exceptions.AuthenticationError, exceptions.AuthorizationError)):
        return OriginError(f"{name} refused the credentials; check the user and the password")
    if isinstance(error, exceptions.AuthenticationWrongNumberOfArgsError):
        return OriginError(f"{name} has no password or user names, and was given some")
    if isinstance(error, exceptions.NoPermissionError):
        return OriginError(f"{name} does not allow this user to use these keys and commands")
    if isinstance(error, (exceptions.ConnectionError, OSError)):
        return OriginUnavailableError(f"{name} cannot be reached: {error}")
    if isinstance(error, exceptions.OutOfMemoryError):
        return OriginUnavailableError(f"{name} has no memory left for this write")
    if isinstance(error, exceptions.ReadOnlyError):
        return OriginUnavailableError(f"{name} is a replica and takes no writes now")
    if isinstance(error, (exceptions.ClusterError, exceptions.RedisClusterException)):
        return OriginUnavailableError(f"{name} does not serve all of its slots now")
    if isinstance(error, (exceptions.BusyLoadingError, exceptions.TryAgainError)):
        return OriginUnavailableError(f"{name} is busy")
    if isinstance(error, exceptions.ResponseError):
        word = str(error).partition(" ")[0]
        if word in _PASSING:
            return OriginUnavailableError(f"{name} answered {word}")
        if word == "NOAUTH":
            return OriginError(f"{name} needs a password; give it in the URL or as password=")
        shown = word if word.isupper() else "an error"
        return OriginError(f"{name} answered {shown}")
    if isinstance(error, exceptions.RedisError):
        return OriginError(f"{name} failed: {type(error).__name__}")
    return error
