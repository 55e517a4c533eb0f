"""The origin that is a table or a query of an SQL database, by SQLAlchemy Core."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from hybridcore.errors import ConfigurationError, OriginError
from hybridcore.origins.base import Origin, held_by_key
from hybridcore.origins.sql_engine import Engines, translated
from hybridcore.origins.threads import run_blocking, run_in_thread
from hybridcore.origins.usage import Meter
from hybridcore.steps import arun_steps, run_steps
from hybridcore.types import Answer, Loaded, NotFound, NotModified, Validators

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import URL, Engine, Executable, Select, Table
    from sqlalchemy.ext.asyncio import AsyncEngine

    from hybridcore.stats import OriginUsage
    from hybridcore.units import Duration

K = TypeVar("K")
T = TypeVar("T")

_IN = 500
"""Values that one statement asks for: what every database takes, and plans quickly."""


class Statement(NamedTuple):
    """What to execute, once or for each of many parameters."""

    what: Executable
    parameters: list[dict[str, Any]] | None = None


Steps = Generator[list[Statement], list[Any], T]
"""Yields the statements of one transaction, and is sent the rows of each."""


class SqlOrigin(Origin[K, Any]):
    """Loads the row of a key from a table or a query, and stores rows in a table.

    Many keys are asked for by ``IN``, 500 at a time. A value is a dict of the columns, those of the
    key left out, or the value of one column. A key without a row does not exist; one with several
    rows is an error. A write is one transaction, also of many rows; if it fails, each row is
    written by itself, so that a bad one does not lose the others. Needs SQLAlchemy 2:
    ``pip install hybridcore[sql]``, and a driver.

    Args:
        engine: a URL, of which engines are made, by an async driver one for each event loop; an
            engine to use as it is, which the origin does not close, an async one on one event loop
            only; or a function that makes engines.
        source: a `Table`, or a `Select`, which takes no writes.
        key: the column or columns of the key, which is a tuple then; by default the primary key.
        value: the column that is the value; by default all but the key, as a dict.
        version: a column that changes with the row: the etag by which a copy is found unchanged.
        timeout: for a connection and for each statement, where the engine is made of a URL and the
            driver has such a limit.
        name: shown in errors; by default the URL without credentials, and the table.

    Raises:
        ImportError: SQLAlchemy or the driver is not installed.
        ConfigurationError: a column is not there, or an option makes no sense.
    """

    def __init__(
        self,
        engine: str | URL | Engine | AsyncEngine | Callable[[], Engine | AsyncEngine],
        source: Table | Select[Any],
        *,
        key: str | tuple[str, ...] | None = None,
        value: str | None = None,
        version: str | None = None,
        timeout: Duration = "10s",
        name: str | None = None,
    ) -> None:
        self._engines = Engines(engine, timeout)
        from sqlalchemy import Select, Table

        if not isinstance(source, (Table, Select)):
            raise ConfigurationError(
                f"source is expected to be a Table or a Select, got {type(source).__name__}"
            )
        self._table = source if isinstance(source, Table) else None
        self._rows: Any = source if isinstance(source, Table) else source.subquery()
        self.name = (
            name or f"{self._engines.name} {'query' if self._table is None else self._table}"
        )
        self.meter = Meter()
        if key is None and self._table is not None:
            key = tuple(column.name for column in self._table.primary_key)
            key = key[0] if len(key) == 1 else key
        if not key:
            raise ConfigurationError("key is expected to name the column of the key")
        self._is_tuple = not isinstance(key, str)
        self._keys: tuple[str, ...] = (key,) if isinstance(key, str) else tuple(key)
        self._value, self._version = value, version
        known = list(self._rows.c.keys())
        for column in (*self._keys, value, version):
            if column is not None and column not in known:
                raise ConfigurationError(
                    f"there is no column {column!r}, only {', '.join(map(repr, known))}"
                )
        self._columns = [self._rows.c[column] for column in self._keys]

    def load(self, key: K, held: Validators | None = None) -> Answer[Any]:
        return self._run(self._loading(key, held))

    async def aload(self, key: K, held: Validators | None = None) -> Answer[Any]:
        return await self._arun(self._loading(key, held))

    def load_many(self, keys: Iterable[K]) -> dict[K, Answer[Any] | Exception]:
        return self._run(self._loading_many(held_by_key(keys)))

    async def aload_many(self, keys: Iterable[K]) -> dict[K, Answer[Any] | Exception]:
        return await self._arun(self._loading_many(held_by_key(keys)))

    def store(self, key: K, value: Any) -> Validators | None:
        _raise_any(self._run(self._storing({key: value})))
        return None

    async def astore(self, key: K, value: Any) -> Validators | None:
        _raise_any(await self._arun(self._storing({key: value})))
        return None

    def store_many(self, items: Mapping[K, Any]) -> dict[K, Exception]:
        return self._run(self._storing(items))

    async def astore_many(self, items: Mapping[K, Any]) -> dict[K, Exception]:
        return await self._arun(self._storing(items))

    def delete(self, key: K) -> None:
        _raise_any(self._run(self._deleting([key])))

    async def adelete(self, key: K) -> None:
        _raise_any(await self._arun(self._deleting([key])))

    def delete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        return self._run(self._deleting(list(dict.fromkeys(keys))))

    async def adelete_many(self, keys: Iterable[K]) -> dict[K, Exception]:
        return await self._arun(self._deleting(list(dict.fromkeys(keys))))

    @property
    def writable(self) -> bool:
        return self._table is not None

    def carries(self, method: str) -> bool:
        return self._engines.is_async is not method.startswith("a")

    def usage(self) -> OriginUsage:
        return self.meter.usage()

    def close(self) -> None:
        self._engines.close()

    async def aclose(self) -> None:
        await self._engines.aclose()

    def __repr__(self) -> str:
        return f"SqlOrigin({self.name})"

    # What to execute and what the rows mean, the same for both faces.

    def _loading(self, key: K, held: Validators | None) -> Steps[Answer[Any]]:
        answer = (yield from self._loading_many({key: held}))[key]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _loading_many(
        self, wanted: Mapping[K, Validators | None]
    ) -> Steps[dict[K, Answer[Any] | Exception]]:
        from sqlalchemy import select

        answers: dict[K, Answer[Any] | Exception] = {}
        parts = self._parts(list(wanted), answers)
        while parts:
            part = parts.pop()
            query = select(self._rows).where(self._among(part))
            try:
                (rows,) = yield [Statement(query)]
            except OriginError as error:
                if len(part) == 1 or type(error) is not OriginError:
                    answers.update(dict.fromkeys(part, error))
                else:  # one key that the database refuses must not lose the others
                    parts += [[key] for key in part]
                continue
            found: dict[Any, list[Any]] = {}
            for row in rows:
                found.setdefault(self._key_of(row), []).append(row)
            for key in part:
                answers[key] = self._answer(key, found.get(key, []), wanted[key])
        return {key: answers[key] for key in wanted}

    def _storing(self, items: Mapping[K, Any]) -> Steps[dict[K, Exception]]:
        table = self._written()
        errors: dict[K, Exception] = {}
        rows: dict[K, dict[str, Any]] = {}
        for key, value in items.items():
            try:
                rows[key] = self._row(key, value)
            except (TypeError, ConfigurationError) as error:
                errors[key] = error
        alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in rows.values():
            alike.setdefault(tuple(row), []).append(row)
        try:
            if rows:
                yield [part for group in alike.values() for part in self._upsert(table, group)]
        except OriginError as error:
            if len(rows) == 1 or type(error) is not OriginError:
                return errors | dict.fromkeys(rows, error)
            for key, row in rows.items():
                try:
                    yield self._upsert(table, [row])
                except OriginError as failure:
                    errors[key] = failure
        return errors

    def _deleting(self, keys: list[K]) -> Steps[dict[K, Exception]]:
        table = self._written()
        errors: dict[K, Exception] = {}
        for part in self._parts(keys, errors):
            try:
                yield [Statement(table.delete().where(self._among(part)))]
            except OriginError as error:
                errors.update(dict.fromkeys(part, error))
        return errors

    def _written(self) -> Table:
        if self._table is None:
            raise self._read_only("give it a Table in the place of a query")
        return self._table

    def _parts(self, keys: list[K], errors: dict[K, Any]) -> list[list[K]]:
        """The keys in lists that one statement takes; those of a wrong shape are errors."""
        good = []
        for key in keys:
            if self._is_tuple and not (isinstance(key, tuple) and len(key) == len(self._keys)):
                errors[key] = self._odd(key)
            else:
                good.append(key)
        size = max(1, _IN // len(self._keys))
        return [good[at : at + size] for at in range(0, len(good), size)]

    def _among(self, keys: list[K]) -> Any:
        from sqlalchemy import tuple_

        if self._is_tuple:
            return tuple_(*self._columns).in_(keys)
        return self._columns[0] == keys[0] if len(keys) == 1 else self._columns[0].in_(keys)

    def _key_of(self, row: Any) -> Any:
        found = tuple(row[name] for name in self._keys)
        return found if self._is_tuple else found[0]

    def _answer(self, key: K, rows: list[Any], held: Validators | None) -> Answer[Any] | Exception:
        if not rows:
            return NotFound()
        if len(rows) > 1:
            return OriginError(f"{self.name} has {len(rows)} rows of one key; one is expected")
        (row,) = rows
        mark = None if self._version is None else Validators(etag=str(row[self._version]))
        if mark is not None and held is not None and held.etag == mark.etag:
            return NotModified()
        if self._value is not None:
            return Loaded(row[self._value], validators=mark)
        value = {name: part for name, part in row.items() if name not in self._keys}
        return Loaded(value, validators=mark)

    def _row(self, key: K, value: Any) -> dict[str, Any]:
        if self._is_tuple and not (isinstance(key, tuple) and len(key) == len(self._keys)):
            raise self._odd(key)
        parts: tuple[Any, ...] = key if self._is_tuple else (key,)  # type: ignore[assignment]
        if self._value is not None:
            value = {self._value: value}
        elif not isinstance(value, Mapping):
            raise TypeError(
                f"{self.name} stores a mapping of columns, got {type(value).__name__}; name the "
                "column of the value with value="
            )
        unknown = [name for name in value if name not in self._rows.c]
        if unknown:
            raise ConfigurationError(f"{self.name} has no column {unknown[0]!r}")
        return {**value, **dict(zip(self._keys, parts, strict=True))}

    def _odd(self, key: object) -> TypeError:
        return TypeError(
            f"a key of {self.name} is expected to be a tuple of {', '.join(self._keys)}, got "
            f"{type(key).__name__}"
        )

    def _upsert(self, table: Table, rows: list[dict[str, Any]]) -> list[Statement]:
        """Statements that store rows which have the same columns."""
        from sqlalchemy import bindparam
        from sqlalchemy.dialects import mysql, postgresql, sqlite

        others = [name for name in rows[0] if name not in self._keys]
        dialect = self._engines.dialect
        if dialect in ("sqlite", "postgresql"):
            insert: Any = (sqlite if dialect == "sqlite" else postgresql).insert(table)
            if not others:
                return [Statement(insert.on_conflict_do_nothing(), rows)]
            changes = {name: insert.excluded[name] for name in others}
            statement = insert.on_conflict_do_update(index_elements=self._keys, set_=changes)
            return [Statement(statement, rows)]
        if dialect in ("mysql", "mariadb"):
            replacing = mysql.insert(table)
            names = others or self._keys
            changes = {name: replacing.inserted[name] for name in names}
            return [Statement(replacing.on_duplicate_key_update(changes), rows)]
        delete = table.delete()
        for name in self._keys:
            delete = delete.where(table.c[name] == bindparam(f"of_{name}"))
        keys = [{f"of_{name}": row[name] for name in self._keys} for row in rows]
        return [Statement(delete, keys), Statement(table.insert(), rows)]

    # The two faces: they execute, and decide nothing.

    def _run(self, steps: Steps[T]) -> T:
        if self._engines.is_async:
            return run_blocking(arun_steps(steps, self._aexecute))
        return run_steps(steps, self._execute)

    async def _arun(self, steps: Steps[T]) -> T:
        if self._engines.is_async:
            return await arun_steps(steps, self._aexecute)
        return await run_in_thread(run_steps, steps, self._execute)

    def _execute(self, statements: list[Statement]) -> list[Any]:
        started = time.monotonic()
        try:
            with self._engines.here().begin() as connection:
                rows = [_rows(connection.execute(*_given(one))) for one in statements]
        except Exception as error:
            failure = self._failed(error, started)
            raise failure from failure.__cause__
        self.meter.record(time.monotonic() - started)
        return rows

    async def _aexecute(self, statements: list[Statement]) -> list[Any]:
        started = time.monotonic()
        try:
            async with self._engines.of_loop().begin() as connection:
                rows = [_rows(await connection.execute(*_given(one))) for one in statements]
        except Exception as error:
            failure = self._failed(error, started)
            raise failure from failure.__cause__
        self.meter.record(time.monotonic() - started)
        return rows

    def _failed(self, error: Exception, started: float) -> Exception:
        failure = translated(self.name, error)
        self.meter.record(time.monotonic() - started, error=failure)
        return failure


def _given(statement: Statement) -> tuple[Any, ...]:
    return (statement.what,) if statement.parameters is None else tuple(statement)


def _rows(result: Any) -> list[Any]:
    return list(result.mappings()) if result.returns_rows else []


def _raise_any(errors: Mapping[Any, Exception]) -> None:
    for error in errors.values():
        raise error
