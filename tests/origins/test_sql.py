"""SqlOrigin on SQLite and on a real PostgreSQL, by sync and async drivers, in both faces."""

from __future__ import annotations

import asyncio
import time

import pytest

import hybridcore as hc
from hybridcore.types import Loaded, NotFound, NotModified, Validators
from tests.postgres_server import PostgresServer

sa = pytest.importorskip("sqlalchemy")

from hybridcore.origins import SqlOrigin  # noqa: E402  # needs what is skipped without

SECRET = "s3cr3t-canary"

META = sa.MetaData()
USERS = sa.Table(
    "users",
    META,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(40), nullable=False),
    sa.Column("age", sa.Integer),
    sa.Column("version", sa.Integer),
)
PAIRS = sa.Table(
    "pairs",
    META,
    sa.Column("tenant", sa.String(10), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("text", sa.String(40)),
)
BARE = sa.Table("bare", META, sa.Column("id", sa.Integer, primary_key=True))


@pytest.fixture(scope="module")
def postgres():
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture(params=["sqlite", "sqlite+aiosqlite", "postgresql+psycopg", "postgresql+asyncpg"])
def database(request, tmp_path):
    """A database with the tables, empty: its URL for the driver, and one to look into it."""
    backend, _, driver = request.param.partition("+")
    pytest.importorskip(driver or "sqlite3")
    if backend == "sqlite":
        url, plain = f"{request.param}:///{tmp_path / 'db'}", f"sqlite:///{tmp_path / 'db'}"
    else:
        server = request.getfixturevalue("postgres")
        url, plain = server.url(driver), server.url("psycopg")
    engine = sa.create_engine(plain, poolclass=sa.NullPool)
    META.drop_all(engine)
    META.create_all(engine)
    yield url, engine
    engine.dispose()


@pytest.fixture
def make(database, call):
    made = []

    def make(source=USERS, **options):
        made.append(SqlOrigin(options.pop("engine", database[0]), source, **options))
        return made[-1]

    yield make
    for origin in made:
        if call.loop is None:
            origin.close()
        else:
            call.loop.run_until_complete(origin.aclose())
    for origin in made:  # what the background loop of blocking callers has
        origin.close()


def row(name, age=None, version=None):
    return {"name": name, "age": age, "version": version}


def test_rows_are_stored_loaded_and_deleted(call, make):
    """A row is inserted and then replaced; a column that is not given keeps what it has."""
    origin = make()
    assert call(origin, "load", 1) == NotFound()
    call(origin, "store", 1, {"name": "Anna", "age": 7})
    assert call(origin, "load", 1) == Loaded(row("Anna", 7))
    call(origin, "store", 1, {"name": "Bela"})
    assert call(origin, "load", 1) == Loaded(row("Bela", 7))
    call(origin, "delete", 1)
    call(origin, "delete", 1)
    assert call(origin, "load", 1) == NotFound()


def test_many_rows(call, make, monkeypatch):
    """Any number of keys is asked for in parts, each key once; rows of different columns fit in."""
    from hybridcore.origins import sql

    monkeypatch.setattr(sql, "_IN", 7)
    origin = make()
    items = {i: {"name": f"n{i}", **({"age": i} if i % 2 else {})} for i in range(30)}
    assert call(origin, "store_many", items) == {}
    answers = call(origin, "load_many", [*range(40), 3])
    assert answers == {
        i: Loaded(row(f"n{i}", i if i % 2 else None)) if i < 30 else NotFound() for i in range(40)
    }
    assert origin.usage().calls == 1 + 6
    assert call(origin, "delete_many", range(29)) == {}
    assert [
        key for key, answer in call(origin, "load_many", items).items() if answer != NotFound()
    ] == [29]
    assert call(origin, "load_many", []) == {}


def test_one_column_is_the_value(call, make):
    """With ``value`` a value is that of one column, as it is."""
    origin = make(value="name")
    assert call(origin, "store_many", {1: "Anna", 2: "Bela"}) == {}
    assert call(origin, "load_many", [1, 2, 3]) == {
        1: Loaded("Anna"),
        2: Loaded("Bela"),
        3: NotFound(),
    }


def test_keys_of_several_columns(call, make):
    """Tuples find rows by all the columns of their key; other keys are refused, each by itself."""
    origin = make(PAIRS, value="text")
    items = {("a", 1): "a1", ("a", 2): "a2", ("b", 1): "b1"}
    assert call(origin, "store_many", items) == {}
    answers = call(origin, "load_many", [*items, ("b", 2), "odd"])
    assert isinstance(answers.pop("odd"), TypeError)
    assert answers == {key: Loaded(value) for key, value in items.items()} | {("b", 2): NotFound()}
    assert list(call(origin, "delete_many", [("a", 1), "odd"])) == ["odd"]
    assert call(origin, "load", ("a", 1)) == NotFound()
    assert list(call(origin, "store_many", {"odd": "x"})) == ["odd"]


def test_a_table_of_keys_alone(call, make):
    """Storing a key that is there changes nothing."""
    origin = make(BARE)
    call(origin, "store", 1, {})
    call(origin, "store", 1, {})
    assert call(origin, "load", 1) == Loaded({})


def test_a_query(call, make, database):
    """Rows of any query are found by the column that is said to be the key; it takes no writes."""
    users = make()
    call(users, "store_many", {1: row("Anna", 7), 2: row("Bela", 8), 3: row("Cleo", 7)})
    query = sa.select(USERS.c.name, (USERS.c.age * 2).label("double")).where(USERS.c.age < 100)
    origin = make(query, key="name", value="double")
    assert call(origin, "load_many", ["Anna", "Bela", "Dora"]) == {
        "Anna": Loaded(14),
        "Bela": Loaded(16),
        "Dora": NotFound(),
    }
    assert not origin.writable
    for method, argument in ("store_many", {"Anna": 1}), ("delete", "Anna"):
        with pytest.raises(hc.ReadOnlyOriginError, match="give it a Table"):
            call(origin, method, argument)
    ages = make(sa.select(USERS.c.age, USERS.c.name), key="age", value="name")
    answers = call(ages, "load_many", [7, 8])
    assert answers[8] == Loaded("Bela")
    assert "2 rows of one key" in str(answers[7])
    with pytest.raises(hc.OriginError, match="2 rows of one key"):
        call(ages, "load", 7)


def test_versions(call, make):
    """A copy whose version is that of the row is renewed; another one is replaced."""
    origin = make(version="version", value="name")
    users = make()
    call(users, "store", 1, row("Anna", version=3))
    answer = call(origin, "load", 1)
    assert answer == Loaded("Anna", validators=Validators("3"))
    assert call(origin, "load", 1, answer.validators) == NotModified()
    assert call(origin, "load_many", {1: answer.validators}) == {1: NotModified()}
    call(users, "store", 1, row("Bela", version=4))
    assert call(origin, "load", 1, answer.validators) == Loaded("Bela", validators=Validators("4"))


def test_a_bad_row_does_not_lose_the_others(call, make):
    """What the database refuses is the error of its key, and shows nothing of the row."""
    origin = make()
    items = {1: row("Anna"), 2: row(None), 3: row("Cleo"), 4: {"nose": 1}, 5: "text"}
    errors = call(origin, "store_many", items)
    assert sorted(errors) == [2, 4, 5]
    assert type(errors[2]) is hc.OriginError
    assert "IntegrityError" in str(errors[2])
    assert isinstance(errors[4], hc.ConfigurationError)
    assert isinstance(errors[5], TypeError)
    found = call(origin, "load_many", items)
    assert [key for key, answer in found.items() if isinstance(answer, Loaded)] == [1, 3]
    with pytest.raises(hc.OriginError):
        call(origin, "store", 2, row(None))


def test_a_key_that_the_database_refuses_fails_alone(call, make, database):
    """PostgreSQL takes no text for a number; the other keys of the batch are found."""
    if "sqlite" in database[0]:
        pytest.skip("SQLite compares anything with anything")
    origin = make(value="name")
    call(origin, "store", 1, "Anna")
    answers = call(origin, "load_many", [1, "one", 2])
    assert answers[1] == Loaded("Anna")
    assert answers[2] == NotFound()
    assert isinstance(answers["one"], Exception)


def test_a_table_that_is_not_there(call, make):
    """A mistake of the application is told as one, and not tried again as if it might pass."""
    table = sa.Table("nowhere", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True))
    origin = make(table)
    with pytest.raises(hc.OriginError) as told:
        call(origin, "load", 1)
    assert type(told.value) is hc.OriginError
    assert origin.usage().errors == {"OriginError": 1}


def test_a_cache_over_it(make, call, database):
    """A hybrid cache reads through, in batches, and writes through and behind."""
    if call.loop is not None:
        pytest.skip("its blocking face is what is used here")
    for strategy in "write_through", "write_behind":
        with hc.HybridCache(
            hc.Memory(100), origin=SqlOrigin(database[0], USERS, value="name"), strategy=strategy
        ) as store:
            store.put(1, f"by {strategy}")
            store.put(2, "Bela")
            store.delete(2)
            assert store.flush(20)
            store.clear()
            assert store.get_many([1, 2]) == {1: f"by {strategy}"}
            assert store.stats().usage.calls > 1


def test_given_engines(call, database):
    """Engines and functions that make them serve as well; those given are left open."""
    url, _ = database
    if sa.make_url(url).get_dialect().is_async:
        from sqlalchemy.ext.asyncio import create_async_engine as create
    else:
        create = sa.create_engine
    engines = [create(url, poolclass=sa.NullPool) for _ in range(2)]
    given, made = SqlOrigin(engines[0], BARE), SqlOrigin(lambda: engines[1], BARE)
    call(made, "store", 1, {})
    assert call(given, "load", 1) == Loaded({})
    for origin in given, made:
        call(origin, "close")
        with pytest.raises(hc.ClosedError):
            call(origin, "load", 1)
    if given._engines.is_async:
        asyncio.run(engines[0].dispose())
    else:
        engines[0].dispose()


def test_a_given_async_engine_is_of_one_loop(database):
    """Another event loop than the first is told how to get one of its own."""
    if "aiosqlite" not in database[0]:
        pytest.skip("about async engines")
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(database[0], poolclass=sa.NullPool)
    origin = SqlOrigin(engine, BARE)
    assert asyncio.run(origin.aload(1)) == NotFound()
    with pytest.raises(hc.ConfigurationError, match="serves one event loop"):
        asyncio.run(origin.aload(1))


def test_a_database_that_is_gone_and_back(postgres):
    """Without a server it is unavailable; with it again, connections are made anew."""
    origin = SqlOrigin(postgres.url("psycopg"), USERS, timeout=5)
    with origin._engines.here().begin() as connection:
        META.create_all(connection)
    origin.store(1, row("Anna"))
    postgres.stop()
    try:
        for _ in range(2):
            with pytest.raises(hc.OriginUnavailableError):
                origin.load(1)
        with pytest.raises(hc.OriginUnavailableError):
            origin.store(1, row("Bela"))
    finally:
        postgres.start()
    assert origin.load(1) == Loaded(row("Anna"))
    assert origin.usage().errors == {"OriginUnavailableError": 3}
    origin.close()


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
def test_a_statement_that_takes_too_long(postgres, driver):
    """It is cancelled after the timeout, and the connection serves others after."""
    slow = sa.select(sa.literal(1).label("id"), sa.func.pg_sleep(30).label("slept"))
    origin = SqlOrigin(postgres.url(driver), slow, key="id", timeout=0.3)
    started = time.monotonic()
    with pytest.raises(hc.OriginTimeoutError):
        origin.load(1)
    assert time.monotonic() - started < 10
    assert origin.usage().errors == {"OriginTimeoutError": 1}
    origin.close()


def test_a_locked_sqlite(tmp_path):
    """A database that another one holds is unavailable for now."""
    url = f"sqlite:///{tmp_path / 'db'}"
    origin = SqlOrigin(url, BARE, timeout=0.05)
    with origin._engines.here().begin() as connection:
        META.create_all(connection)
    other = sa.create_engine(url)
    with other.connect() as connection:
        connection.exec_driver_sql("BEGIN EXCLUSIVE")
        with pytest.raises(hc.OriginUnavailableError):
            origin.store(1, {})
        connection.rollback()
    origin.store(1, {})
    other.dispose()
    origin.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": f"nothing://u:{SECRET}@h/d"}, "expected to be the URL of a database"),
        ({"engine": SECRET}, "expected to be the URL of a database"),
        ({"engine": 5}, "a URL, an engine or a function"),
        ({"engine": lambda: 5}, "expected to make an Engine"),
        ({"source": "users"}, "a Table or a Select, got str"),
        ({"source": sa.select(USERS.c.name)}, "expected to name the column of the key"),
        ({"key": "nose"}, "there is no column 'nose', only 'id', 'name'"),
        ({"value": "nose"}, "there is no column 'nose'"),
        ({"timeout": 0}, "timeout is expected"),
    ],
)
def test_what_makes_no_sense_is_refused(options, said):
    """Each is refused at once, without what it may not show."""
    given = {"engine": "sqlite://", "source": USERS} | options
    with pytest.raises(hc.ConfigurationError, match=said) as told:
        SqlOrigin(given.pop("engine"), given.pop("source"), **given)
    assert SECRET not in str(told.value)


def test_credentials_are_not_shown(postgres):
    """Fault 32: a password is in no repr, name or error."""
    url = f"postgresql+psycopg://postgres:{SECRET}@127.0.0.1:{postgres.port}/nowhere"
    origin = SqlOrigin(url, USERS)
    with pytest.raises(hc.OriginError) as told:
        origin.load(1)
    assert SECRET not in f"{told.value!r}{told.value.__cause__!r}{origin!r}{origin.name}"
    origin.close()
