"""CallableOrigin: any function is an origin, in both faces."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from hybridcore.errors import NotFoundError, ReadOnlyOriginError
from hybridcore.origins import CallableOrigin, Origin
from hybridcore.types import Loaded, NotFound, NotModified, Validators


def double(key):
    return key * 2


async def adouble(key):
    await asyncio.sleep(0)
    return key * 2


class Doubler:
    async def __call__(self, key):
        return key * 2


@pytest.mark.parametrize(
    "function",
    [double, adouble, partial(adouble), Doubler(), lambda key: adouble(key)],
    ids=["sync", "async", "partial", "object", "plain-returning-awaitable"],
)
def test_any_kind_of_function_serves_both_faces(call, function):
    """A function, sync or async in whatever way, is asked through either face."""
    origin = CallableOrigin(function)
    assert call(origin, "load", 21) == Loaded(42)
    assert call(origin, "load_many", [1, 2, 1]) == {1: Loaded(2), 2: Loaded(4)}


def test_sync_function_does_not_block_the_event_loop(call):
    """An asyncio caller has a sync function run in another thread."""
    threads = []
    call(CallableOrigin(lambda key: threads.append(threading.current_thread())), "load", 1)
    assert (threads[0] is threading.main_thread()) == (call.loop is None)


@pytest.mark.parametrize(
    "answer", [Loaded(1, ttl=5, validators=Validators("e")), NotModified(3), NotFound()]
)
def test_function_may_answer_in_full(call, answer):
    """A Loaded, NotModified or NotFound is passed on as it is."""
    assert call(CallableOrigin(lambda key: answer), "load", "k") is answer


def test_not_found_is_an_answer_and_none_is_a_value(call):
    """NotFoundError means that there is no such key; None is a value like any other."""

    def load(key):
        if key == "missing":
            raise NotFoundError(key)

    origin = CallableOrigin(load)
    assert call(origin, "load", "missing") == NotFound()
    assert call(origin, "load", "none") == Loaded(None)


class Odd(Exception):
    pass


def test_other_errors_pass_unchanged(call):
    """What else a function raises is the very error that the caller gets."""
    odd = Odd("as it was")

    def load(key):
        raise odd

    with pytest.raises(Odd) as caught:
        call(CallableOrigin(load), "load", 1)
    assert caught.value is odd


def test_stop_iteration_does_not_hang_asyncio():
    """StopIteration from a sync function ends the wait of an asyncio caller with an error."""
    origin = CallableOrigin(lambda key: next(iter(())))
    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(asyncio.wait_for(origin.aload(1), 10))


def test_one_failing_key_does_not_lose_the_others(call):
    """Without load_many, each key has its own answer or error."""

    def load(key):
        if key == 2:
            raise Odd(key)
        return key

    answers = call(CallableOrigin(load), "load_many", [1, 2, 3])
    assert answers[1] == Loaded(1)
    assert isinstance(answers[2], Odd)
    assert answers[3] == Loaded(3)


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: partial(_async_of, f)])
def test_load_many_is_one_call(call, wrap):
    """load_many gets each key once, in order; what its mapping lacks does not exist."""
    asked = []

    def load_many(keys):
        asked.append(keys)
        return {key: key * 2 for key in keys if key != 3}

    origin = CallableOrigin(double, load_many=wrap(load_many))
    answers = call(origin, "load_many", iter([2, 3, 2, 1]))
    assert answers == {2: Loaded(4), 3: NotFound(), 1: Loaded(2)}
    assert asked == [[2, 3, 1]]


async def _async_of(function, *args):
    return function(*args)


def test_load_many_must_return_a_mapping(call):
    """A load_many that returns something else is told what was expected."""
    origin = CallableOrigin(double, load_many=lambda keys: list(keys))
    with pytest.raises(TypeError, match=r"expected to return a mapping.*got list"):
        call(origin, "load_many", [1])


def test_without_store_it_is_read_only(call):
    """An origin without store or delete refuses both and says what to give it."""
    origin = CallableOrigin(double)
    assert not origin.writable
    with pytest.raises(ReadOnlyOriginError, match="double takes no writes; give it store="):
        call(origin, "store", 1, 2)
    with pytest.raises(ReadOnlyOriginError, match="give it delete="):
        call(origin, "delete", 1)


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: partial(_async_of, f)])
def test_store_and_delete_reach_their_functions(call, wrap):
    """With functions to write, it is writable; deleting what does not exist is no error."""
    rows = {}

    def store(key, value):
        rows[key] = value
        return Validators(etag=f"v{value}")

    def delete(key):
        if key not in rows:
            raise NotFoundError(key)
        del rows[key]

    origin = CallableOrigin(rows.get, store=wrap(store), delete=wrap(delete), name="rows")
    assert origin.writable
    assert call(origin, "store", 1, 10) == Validators(etag="v10")
    assert rows == {1: 10}
    call(origin, "delete", 1)
    call(origin, "delete", 1)
    assert rows == {}
    assert repr(origin) == "CallableOrigin(rows)"


@pytest.mark.parametrize(("option", "given"), [("load", None), ("store", 5), ("load_many", "f")])
def test_what_is_no_function_is_refused(option, given):
    """An option that cannot be called is refused at once, by name."""
    with pytest.raises(TypeError, match=f"{option} is expected to be a function"):
        CallableOrigin(**({"load": double} | {option: given}))


class OnlyAsync(Origin):
    """Overrides aload alone, and notes how many loads run at once."""

    parallel = 4

    def __init__(self):
        self.running = self.most = 0

    async def aload(self, key, held=None):
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        return Loaded(key)


def test_async_origin_loads_several_at_once_but_not_all(call):
    """load_many of an async origin runs ``parallel`` loads at a time, in both faces."""
    origin = OnlyAsync()
    assert call(origin, "load_many", range(20)) == {key: Loaded(key) for key in range(20)}
    assert origin.most == 4
    assert not origin.writable
    with pytest.raises(ReadOnlyOriginError, match="override store"):
        call(origin, "store", 1, 2)


def test_calling_back_into_the_sync_face_is_refused():
    """An async function that uses a sync face of its own loop is told to use the async one."""
    inner = CallableOrigin(adouble)

    async def outer(key):
        return inner.load(key)

    with pytest.raises(RuntimeError, match=r"use the \.aio face"):
        CallableOrigin(outer).load(1)
