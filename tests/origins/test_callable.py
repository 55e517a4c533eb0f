"""CallableOrigin: any function is an origin, in both faces."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from hybridcore.errors import ConfigurationError, NotFoundError, ReadOnlyOriginError
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


def gives(pairs):
    """A generator function of these pairs, an exception among them being raised."""

    def load_many(keys):
        for pair in pairs:
            if isinstance(pair, Exception):
                raise pair
            yield pair

    return load_many


def agives(pairs):
    async def load_many(keys):
        for pair in pairs:
            await asyncio.sleep(0)
            if isinstance(pair, Exception):
                raise pair
            yield pair

    return load_many


@pytest.mark.parametrize("kind", [gives, agives])
def test_load_many_may_be_a_generator_of_pairs(call, kind):
    """What it yields is found, an exception among the values is the error of its key alone."""
    bad = Odd("b")
    origin = CallableOrigin(load_many=kind([("c", Loaded(3, ttl=9)), ("b", bad), ("odd", 0)]))
    answers = call(origin, "load_many", ["a", "b", "c"])
    assert answers == {"a": NotFound(), "b": bad, "c": Loaded(3, ttl=9)}
    assert call(origin, "load", "c") == Loaded(3, ttl=9)
    with pytest.raises(Odd):
        call(origin, "load", "b")


@pytest.mark.parametrize("kind", [gives, agives])
def test_a_generator_that_raises_loses_only_what_is_left(call, kind):
    """The pairs before the error count; it is the error of all other keys, or of the whole call."""
    late, early = Odd("late"), Odd("early")
    answers = call(CallableOrigin(load_many=kind([(1, 10), late])), "load_many", [1, 2, 3])
    assert answers == {1: Loaded(10), 2: late, 3: late}
    with pytest.raises(Odd, match="early"):
        call(CallableOrigin(load_many=kind([early])), "load_many", [1])
    with pytest.raises(TypeError, match="or to yield such pairs, got int"):
        call(CallableOrigin(load_many=kind([5])), "load_many", [1])


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: partial(_async_of, f)])
def test_store_many_and_delete_many_are_one_call(call, wrap):
    """Functions for many keys get them at once, and single ones too if there is no other."""
    rows, calls = {}, []

    def store_many(items):
        calls.append(dict(items))
        rows.update((key, value) for key, value in items.items() if key != "bad")
        return {"bad": Odd("bad")} if "bad" in items else None

    def delete_many(keys):
        calls.append(list(keys))
        for key in keys:
            rows.pop(key, None)

    origin = CallableOrigin(double, store_many=wrap(store_many), delete_many=wrap(delete_many))
    assert origin.writable
    assert origin.does_many("store_many")
    assert list(call(origin, "store_many", {"a": 1, "bad": 2})) == ["bad"]
    assert call(origin, "delete_many", iter("aa")) == {}
    call(origin, "store", "b", 3)
    with pytest.raises(Odd):
        call(origin, "store", "bad", 1)
    call(origin, "delete", "b")
    assert rows == {}
    assert calls == [{"a": 1, "bad": 2}, ["a"], {"b": 3}, {"bad": 1}, ["b"]]


@pytest.mark.parametrize("wrap", [lambda f: f, lambda f: partial(_async_of, f)])
def test_without_functions_for_many_each_key_is_written_by_itself(call, wrap):
    """One failing key does not lose the others, and is returned with its error."""
    rows = {1: 1, 2: 2}

    def store(key, value):
        if key == "bad":
            raise Odd(key)
        rows[key] = value

    def delete(key):
        if key == "bad":
            raise Odd(key)
        del rows[key]

    origin = CallableOrigin(double, store=wrap(store), delete=wrap(delete))
    assert not origin.does_many("store_many")
    errors = call(origin, "store_many", {"bad": 0, 3: 3})
    assert list(errors) == ["bad"]
    assert isinstance(errors["bad"], Odd)
    assert list(call(origin, "delete_many", [1, "bad", 2])) == ["bad"]
    assert rows == {3: 3}
    for method in "store_many", "delete_many":
        with pytest.raises(ReadOnlyOriginError):
            call(CallableOrigin(double), method, {1: 1})


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("concurrency", [3, {"load": 3}])
def test_concurrency_bounds_the_calls_of_a_function(kind, concurrency):
    """However many threads and tasks ask, so many calls run at a time; the others wait."""
    lock = threading.Lock()
    running, most = 0, 0

    def enter():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)

    def leave():
        nonlocal running
        with lock:
            running -= 1

    def load(key):
        enter()
        time.sleep(0.002)
        leave()
        return key

    async def aload(key):
        enter()
        await asyncio.sleep(0.002)
        leave()
        return key

    origin = CallableOrigin(load if kind == "sync" else aload, concurrency=concurrency)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(origin.load, key) for key in range(16)]
        answers = asyncio.run(origin.aload_many(range(16)))
        assert answers == {key: Loaded(key) for key in range(16)}
        assert [one.result() for one in asked] == [Loaded(key) for key in range(16)]
    assert most == 3


@pytest.mark.parametrize(
    ("concurrency", "said"),
    [(0, "at least 1"), (True, "at least 1"), ({"laod": 1}, "expected to name load,")],
)
def test_a_concurrency_that_makes_no_sense_is_refused(concurrency, said):
    """What is no number of calls, or of no function, is refused by name."""
    with pytest.raises(ConfigurationError, match=said):
        CallableOrigin(double, concurrency=concurrency)


class Rows(Origin):
    """Stores and deletes one key at a time, in one of the two ways."""

    def __init__(self):
        self.rows = {}

    def load(self, key, held=None):
        return Loaded(self.rows[key])


class SyncRows(Rows):
    def store(self, key, value):
        self.rows[key] = 1 // value

    def delete(self, key):
        del self.rows[key]


class AsyncRows(Rows):
    async def astore(self, key, value):
        self.rows[key] = 1 // value

    async def adelete(self, key):
        del self.rows[key]


@pytest.mark.parametrize("kind", [SyncRows, AsyncRows])
def test_an_origin_that_writes_one_key_writes_many(call, kind):
    """Of an origin that overrides store and delete, those for many keys tell each error."""
    origin = kind()
    assert list(call(origin, "store_many", {"a": 1, "b": 0, "c": 1})) == ["b"]
    assert origin.rows == {"a": 1, "c": 1}
    assert list(call(origin, "delete_many", ["a", "b", "c"])) == ["b"]
    assert origin.rows == {}
    assert not origin.does_many("store_many")
    with pytest.raises(ReadOnlyOriginError):
        call(Rows(), "store_many", {"a": 1})
    with pytest.raises(ReadOnlyOriginError):
        call(Rows(), "delete_many", ["a"])
