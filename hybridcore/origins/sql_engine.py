"""The engines of an SQL origin, made or given, and what the errors of databases mean."""

from __future__ import annotations

import math
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, Any

from hybridcore.errors import (
    ConfigurationError,
    HybridCoreError,
    OriginError,
    OriginTimeoutError,
    OriginUnavailableError,
)
from hybridcore.origins.clients import Clients
from hybridcore.units import Duration, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL

_CANCELLED = ("QueryCanceled", "QueryCanceledError", "LockNotAvailable", "LockNotAvailableError")
"""What drivers call the end of a statement that took too long."""

_MISTAKES = ("no such table", "no such column", "unable to open", "syntax error")
"""What SQLite calls operational and will not pass."""


class Engines:
    """The engines of one database: one for the threads of a process, or one for each event loop."""

    def __init__(self, engine: Any, timeout: Duration) -> None:
        try:
            from sqlalchemy import URL, Engine, make_url
            from sqlalchemy.exc import ArgumentError, NoSuchModuleError
            from sqlalchemy.ext.asyncio import AsyncEngine
        except ImportError as error:
            raise ImportError(
                "an SQL origin needs SQLAlchemy: pip install hybridcore[sql]"
            ) from error
        limit = seconds(timeout)
        if not 0 < limit < TIMEOUT_MAX:
            raise ConfigurationError(
                f"timeout is expected to be over 0 and finite, got {timeout!r}"
            )
        given = isinstance(engine, (Engine, AsyncEngine))
        make: Callable[[], Any]
        if isinstance(engine, (str, URL)):
            try:
                url = make_url(engine)
                dialect = url.get_dialect()
            except (ArgumentError, NoSuchModuleError, ValueError):  # its text may show the URL
                raise ConfigurationError(
                    "engine is expected to be the URL of a database that SQLAlchemy knows, such "
                    "as postgresql+psycopg://user:password@host/database"
                ) from None
            is_async = bool(dialect.is_async)
            make = _maker(url, limit, is_async)
            self.dialect = dialect.name
        elif given or callable(engine):
            first = engine if given else engine()
            if not isinstance(first, (Engine, AsyncEngine)):
                raise ConfigurationError(
                    "engine is expected to make an Engine or an AsyncEngine, made a "
                    f"{type(first).__name__}"
                )
            url, is_async = first.url, isinstance(first, AsyncEngine)
            self.dialect = first.dialect.name
            make = _after(first, engine)
            if given:
                make = _once(first) if is_async else lambda: first
        else:
            raise ConfigurationError(
                "engine is expected to be a URL, an engine or a function that makes engines, got "
                f"{type(engine).__name__}"
            )
        self.is_async = is_async
        self.name = _shown(url)
        self._given = given
        self._clients: Clients[Any, Any] = Clients(
            self.name,
            make,
            make,
            self._dispose,
            self._adispose,
        )
        self.here, self.of_loop = self._clients.here, self._clients.of_loop
        self.close, self.aclose = self._clients.close, self._clients.aclose

    def _dispose(self, engine: Any) -> None:
        if not self._given:
            engine.dispose()

    async def _adispose(self, engine: Any) -> None:
        if not self._given:
            await engine.dispose()


def _maker(url: URL, limit: float, is_async: bool) -> Callable[[], Any]:
    from sqlalchemy import QueuePool, create_engine
    from sqlalchemy.ext.asyncio import create_async_engine

    options: dict[str, Any] = {"pool_pre_ping": True, "hide_parameters": True}
    driver = url.get_driver_name()
    whole = math.ceil(limit)
    if driver in ("psycopg", "psycopg2"):
        options["connect_args"] = {
            "connect_timeout": max(2, whole),
            "options": f"-c statement_timeout={max(1, int(limit * 1000))}",
        }
    elif driver == "asyncpg":
        options["connect_args"] = {"timeout": limit, "command_timeout": limit}
    elif url.get_backend_name() == "sqlite":
        options["connect_args"] = {"timeout": limit}
    elif driver in ("pymysql", "mysqldb", "mysqlconnector", "aiomysql", "asyncmy"):
        options["connect_args"] = {"connect_timeout": whole}

    dialect: Any = url.get_dialect()
    if issubclass(dialect.get_pool_class(url), QueuePool):
        options["pool_timeout"] = limit

    def make() -> Any:
        return create_async_engine(url, **options) if is_async else create_engine(url, **options)

    make()  # a driver that is missing is told at once
    return make


def _once(engine: Any) -> Callable[[], Any]:
    """Give the engine to the first who asks, an event loop: its connections are of that loop."""
    rest = [engine]

    def give() -> Any:
        if not rest:
            raise ConfigurationError(
                "an AsyncEngine serves one event loop, and another one asks; give the origin a URL "
                "or a function that makes engines, also for blocking callers"
            )
        return rest.pop()

    return give


def _after(first: Any, make: Callable[[], Any]) -> Callable[[], Any]:
    """The function, whose first result is here already."""
    made = [first]
    return lambda: made.pop() if made else make()


def _shown(url: URL) -> str:
    host = f"{url.host or ''}{f':{url.port}' if url.port else ''}"
    return f"{url.get_backend_name()}://{host}/{url.database or ''}"


def translated(name: str, error: Exception) -> Exception:
    """The error of hybridcore that one of SQLAlchemy amounts to; others as they are.

    The text of a database is not told: it may have keys and values in it.
    """
    from sqlalchemy import exc

    if isinstance(error, HybridCoreError):
        return error
    if isinstance(error, (TimeoutError, exc.TimeoutError)):  # the driver's, or the pool's
        return _caused(OriginTimeoutError(f"{name} did not answer in time"), error)
    if isinstance(error, OSError):
        return _caused(OriginUnavailableError(f"{name} cannot be reached: {error}"), error)
    if not isinstance(error, exc.SQLAlchemyError):
        return error
    cause = getattr(error, "orig", None) or error
    kinds = {kind.__name__ for kind in type(cause).__mro__}
    kinds |= {kind.__name__ for kind in type(cause.__cause__).__mro__}
    shown = f"{type(error).__name__}: {type(cause).__name__}"
    if kinds & set(_CANCELLED):
        return _caused(OriginTimeoutError(f"{name} took too long ({shown})"), error)
    if isinstance(error, (exc.OperationalError, exc.InterfaceError, exc.DisconnectionError)) or (
        isinstance(error, exc.DBAPIError) and error.connection_invalidated
    ):
        if any(mistake in str(cause) for mistake in _MISTAKES):
            return _caused(OriginError(f"{name} failed: {cause}"), error)
        return _caused(OriginUnavailableError(f"{name} is not there or not ready ({shown})"), error)
    return _caused(OriginError(f"{name} failed ({shown})"), error)


def _caused(failure: Exception, error: Exception) -> Exception:
    failure.__cause__ = error
    return failure
