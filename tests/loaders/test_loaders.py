"""Loaders: a key is asked of the function that its pattern names, alone or in a batch."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from hybridcore.errors import (
    ConfigurationError,
    NotFoundError,
    OriginError,
    OriginUnavailableError,
    ReadOnlyOriginError,
)
from hybridcore.origins import CallableOrigin, LoadContext, Loaders
from hybridcore.types import Held, Loaded, NotFound, NotModified, Validators


def by_context(ctx):
    return (ctx.key, dict(ctx.args))


async def aby_context(ctx):
    await asyncio.sleep(0)
    return (ctx.key, dict(ctx.args))


EXPECTED = ("repo:a/7", {"owner": "a", "number": 7})


@pytest.mark.parametrize(
    "function",
    [
        by_context,
        aby_context,
        lambda ctx: aby_context(ctx),
        lambda owner, number: (f"repo:{owner}/{number}", {"owner": owner, "number": number}),
        lambda number, ctx: (ctx.key, {"owner": ctx.args["owner"], "number": number}),
        lambda ctx, /, owner, *, number: (ctx.key, {"owner": owner, "number": number}),
        lambda ctx, **fields: (ctx.key, fields),
        lambda *args, **fields: (args[0].key, fields),
        lambda *args: by_context(*args),
        partial(lambda client, ctx: by_context(ctx), object()),
        lambda ctx, retries=3: by_context(ctx),
    ],
)
def test_loader_is_given_what_it_asks_for(call, function):
    """Parameters named like fields get what the key has there, the other one the context."""
    loaders = Loaders()
    loaders.register("repo:{owner}/{number:int}")(function)
    assert call(loaders, "load", "repo:a/7") == Loaded(EXPECTED)
    assert call(loaders, "load_many", ["repo:a/7"]) == {"repo:a/7": Loaded(EXPECTED)}


@pytest.mark.parametrize(
    "bad", [lambda ctx, other: 0, lambda ctx, owner, *, more: 0, "no function"]
)
def test_loader_that_cannot_be_called_is_refused(bad):
    """What it requires beside context and fields nobody could give; nothing is registered."""
    loaders = Loaders()
    with pytest.raises(ConfigurationError):
        loaders.register("repo:{owner}")(bad)
    assert not loaders.covers("repo:a")


def test_second_loader_of_a_pattern_is_refused():
    """A pattern has one loader and one bulk loader; the first ones stay."""
    loaders = Loaders()
    for many in (False, True):
        loaders.register("a:{x}", many=many)(lambda ctx: {})
        with pytest.raises(ConfigurationError, match="already"):
            loaders.register("a:{x}", many=many)(lambda ctx: 1)
    with pytest.raises(ConfigurationError, match="same keys"):
        loaders.register("a:{y}")(lambda ctx: 1)
    assert loaders.load("a:1") == Loaded({})


@pytest.mark.parametrize("is_async", [False, True])
def test_what_is_assigned_goes_with_the_value(call, is_async):
    """ttl, tags, depends_on, cost and importance of the context are part of the answer."""

    def load(ctx):
        ctx.ttl = "5m"
        ctx.tags = ["t"]
        ctx.depends_on = ["other", 2]
        ctx.cost = 3
        ctx.importance = 0.5

    async def aload(ctx):
        return load(ctx)

    loaders = Loaders()
    loaders.register("k")(aload if is_async else load)
    assert call(loaders, "load", "k") == Loaded(
        None, ttl=300.0, cost=3, importance=0.5, tags=("t",), depends_on=("other", 2)
    )


def test_explicit_answer_wins_over_what_is_assigned():
    """A Loaded that names its own ttl and tags keeps them; the validators stay."""
    ctx = LoadContext("k")
    ctx.ttl, ctx.tags = 1, ["a"]
    given = Loaded("v", ttl=9.0, tags=("b",), validators=Validators("e"))
    assert ctx.answer(given) == given
    assert ctx.answer(ctx.modified("v", etag="e")) == Loaded(
        "v", ttl=1.0, tags=("a",), validators=Validators("e")
    )
    assert ctx.answer(NotModified()) == NotModified(1.0)
    assert ctx.answer(ctx.missing()) == NotFound()
    assert ctx.answer(ctx.missing(ttl="1m")) == NotFound(60.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tags", "one"),
        ("depends_on", "one"),
        ("tags", 7),
        ("cost", -1),
        ("cost", float("nan")),
        ("cost", float("inf")),
        ("importance", "high"),
        ("importance", True),
        ("ttl", "soon"),
    ],
)
def test_nonsense_that_is_assigned_fails_the_load(call, name, value):
    """What cannot be meant is an error that names it."""
    loaders = Loaders()
    loaders.register("k")(lambda ctx: setattr(ctx, name, value))
    with pytest.raises(ConfigurationError):
        call(loaders, "load", "k")


def test_copy_held_reaches_the_loader(call):
    """The stale value and its validators are there; None as a value is told from none."""
    seen = []

    def load(ctx):
        seen.append((ctx.has_stale, ctx.stale_value, ctx.etag, ctx.last_modified))
        return ctx.not_modified() if ctx.has_stale else ctx.modified(1, etag="new")

    loaders = Loaders()
    loaders.register("k")(load)
    assert call(loaders, "load", "k", Held("e", "d", None)) == NotModified()
    assert call(loaders, "load_many", {"k": Held(value=5)}) == {"k": NotModified()}
    assert call(loaders, "load", "k", None) == Loaded(1, validators=Validators("new"))
    assert call(loaders, "load", "k", Validators("e")) == Loaded(1, validators=Validators("new"))
    assert seen == [
        (True, None, "e", "d"),
        (True, 5, None, None),
        (False, None, None, None),
        (False, None, "e", None),
    ]


def test_value_held_is_not_shown():
    """Validators are shown in errors, a value never is."""
    assert "secret" not in repr(Held("e", value="secret"))


def test_loader_may_fail(call):
    """fail() raises what the breaker understands; not_modified without a copy is a failure."""
    loaders = Loaders()
    loaders.register("a")(lambda ctx: ctx.fail("no luck"))
    loaders.register("b")(lambda ctx: ctx.fail("busy", retry_after="2s"))
    loaders.register("c")(lambda ctx: ctx.not_modified())
    with pytest.raises(OriginError, match="no luck"):
        call(loaders, "load", "a")
    with pytest.raises(OriginUnavailableError) as caught:
        call(loaders, "load", "b")
    assert caught.value.retry_after == 2
    with pytest.raises(OriginError, match="no copy is held"):
        call(loaders, "load", "c")


def not_there(ctx):
    raise NotFoundError(ctx.key)


def test_not_found_and_none_are_told_apart(call):
    """NotFoundError and missing() say that there is no such key; None is a value."""
    loaders = Loaders()
    loaders.register("a")(not_there)
    loaders.register("b")(lambda ctx: ctx.missing(ttl=5))
    loaders.register("c")(lambda ctx: None)
    assert call(loaders, "load_many", "abc") == {
        "a": NotFound(),
        "b": NotFound(5.0),
        "c": Loaded(None),
    }


def test_batch_is_divided_among_who_loads(call):
    """Bulk loader, single loader, the origin below: each gets its keys once, in one batch."""
    asked = []

    def users(contexts):
        asked.append([ctx.key for ctx in contexts])
        contexts[0].ttl = 7
        return {ctx.key: ctx.args["id"] for ctx in contexts if ctx.args["id"] != 3}

    def below(keys):
        asked.append(keys)
        return dict.fromkeys(keys, "below")

    loaders = Loaders(CallableOrigin(lambda key: key, load_many=below))
    loaders.register("user:{id:int}", many=True)(users)
    loaders.register("item:{id:int}")(lambda id: id)
    keys = ["x", "user:1", "item:9", "user:2", "y", "user:3", "user:1"]
    answers = call(loaders, "load_many", keys)
    assert answers == {
        "x": Loaded("below"),
        "user:1": Loaded(1, ttl=7.0),
        "item:9": Loaded(9),
        "user:2": Loaded(2),
        "y": Loaded("below"),
        "user:3": NotFound(),
    }
    assert list(answers) == list(dict.fromkeys(keys))
    assert sorted(asked) == [["user:1", "user:2", "user:3"], ["x", "y"]]


def test_failures_stay_with_their_keys(call):
    """A loader, a bulk loader or the origin that fails takes no other key along."""
    boom = OriginError("boom")

    def fails(_):
        raise boom

    def some(contexts):
        return {ctx.key: boom if ctx.args["n"] == 1 else ctx.args["n"] for ctx in contexts}

    loaders = Loaders(CallableOrigin(fails, load_many=fails))
    loaders.register("bulk:{n:int}", many=True)(fails)
    loaders.register("some:{n:int}", many=True)(some)
    loaders.register("one:{n:int}")(lambda n: n or fails(n))
    keys = ["x", "bulk:1", "some:1", "some:2", "one:0", "one:1"]
    assert call(loaders, "load_many", keys) == {
        "x": boom,
        "bulk:1": boom,
        "some:1": boom,
        "some:2": Loaded(2),
        "one:0": boom,
        "one:1": Loaded(1),
    }
    with pytest.raises(OriginError, match="boom"):
        call(loaders, "load", "some:1")


@pytest.mark.parametrize("is_async", [False, True])
def test_bulk_loader_alone_serves_single_keys(call, is_async):
    """A pattern with a bulk loader only asks it for one key; with both, each has its part."""

    async def amany(contexts):
        return {ctx.key: len(contexts) for ctx in contexts}

    def many(contexts):
        return {ctx.key: len(contexts) for ctx in contexts}

    loaders = Loaders()
    loaders.register("k:{n}", many=True)(amany if is_async else many)
    assert call(loaders, "load", "k:1") == Loaded(1)
    assert call(loaders, "load", "k:1", Held(value=0)) == Loaded(1)
    loaders.register("k:{n}")(lambda n: "single")
    assert call(loaders, "load", "k:1") == Loaded("single")
    assert call(loaders, "load_many", ["k:1", "k:2"]) == {"k:1": Loaded(2), "k:2": Loaded(2)}


def test_bulk_loader_must_return_a_mapping(call):
    """Anything else is an error that names the pattern."""
    loaders = Loaders()
    loaders.register("k:{n}", many=True)(lambda contexts: [1])
    with pytest.raises(TypeError, match=r"bulk loader of 'k:\{n\}'"):
        call(loaders, "load", "k:1")


def test_async_loaders_run_at_once(call):
    """Keys without a bulk loader are asked for together, up to ``parallel`` at a time."""
    running, most = 0, 0

    async def load(ctx):
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1

    loaders = Loaders()
    loaders.parallel = 3
    loaders.register("k:{n}")(load)
    assert len(call(loaders, "load_many", [f"k:{n}" for n in range(8)])) == 8
    assert most == 3


def test_sync_loaders_leave_the_event_loop_alone():
    """An asyncio caller has sync loaders run in other threads."""
    threads = []
    loaders = Loaders()
    loaders.register("a")(lambda ctx: threads.append(threading.current_thread()))
    loaders.register("b", many=True)(lambda c: threads.append(threading.current_thread()) or {})
    asyncio.run(loaders.aload_many(["a", "b"]))
    assert threading.main_thread() not in threads
    assert len(threads) == 2


def test_cancelled_batch_is_cancelled():
    """Cancellation is no failure of a key: it reaches the caller."""

    async def load(ctx):
        await asyncio.sleep(60)

    loaders = Loaders()
    loaders.register("k")(load)

    async def main():
        task = asyncio.ensure_future(loaders.aload_many(["k"]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_keys_of_nobody(call):
    """Without an origin below, a key that no pattern matches does not exist."""
    loaders = Loaders()
    assert call(loaders, "load_many", ["x", 1, ("t",)]) == dict.fromkeys(
        ["x", 1, ("t",)], NotFound()
    )
    assert call(loaders, "load", "x") == NotFound()
    assert not loaders.covers("x")
    assert Loaders(CallableOrigin(str)).covers("x")


def test_writes_go_to_the_origin_below(call):
    """Loaders only load; without an origin nothing can be written."""
    rows = {}
    loaders = Loaders(CallableOrigin(rows.get, store=rows.__setitem__, delete=rows.pop))
    assert loaders.writable
    call(loaders, "store", "k", 1)
    assert rows == {"k": 1}
    call(loaders, "delete", "k")
    assert rows == {}
    assert not Loaders().writable
    with pytest.raises(ReadOnlyOriginError):
        call(Loaders(), "store", "k", 1)


def test_loader_may_register_and_load(call):
    """A loader that registers another one and asks for its key is not in its own way."""
    loaders = Loaders()

    @loaders.register("outer")
    def outer(ctx):
        loaders.register("inner")(lambda ctx: "inner")
        return loaders.load("inner").value

    assert call(loaders, "load", "outer") == Loaded("inner")
