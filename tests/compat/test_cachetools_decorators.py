"""`cached` and `cachedmethod`: ours, and those of cachetools over our caches."""

from __future__ import annotations

import copy
import inspect
import pickle
import threading
from typing import Any

import pytest

import hybridcore
from hybridcore.compat import cachetools as ours
from hybridcore.compat.cachetools import func

try:
    import cachetools as theirs
except ImportError:
    theirs = None

LIBRARIES = [
    pytest.param(ours, id="ours"),
    pytest.param(
        theirs,
        id="theirs",
        marks=pytest.mark.skipif(theirs is None, reason="cachetools is not installed"),
    ),
]
LIBRARY = pytest.mark.parametrize("library", LIBRARIES)
STORES: dict[str, Any] = {
    "hybridcore.Cache": lambda: hybridcore.Cache(2, weights=hybridcore.Weights.lru()),
    "Cache": lambda: ours.Cache(2),
    "FIFOCache": lambda: ours.FIFOCache(2),
    "LFUCache": lambda: ours.LFUCache(2),
    "LRUCache": lambda: ours.LRUCache(2),
    "RRCache": lambda: ours.RRCache(2),
    "TTLCache": lambda: ours.TTLCache(2, 3600),
    "TLRUCache": lambda: ours.TLRUCache(2, lambda key, value, now: now + 3600),
}
OPTIONS: dict[str, Any] = {
    "alone": dict,
    "lock": lambda: {"lock": threading.Lock()},
    "condition": lambda: {"condition": threading.Condition()},
    "both": lambda: (lambda lock: {"lock": lock, "condition": threading.Condition(lock)})(
        threading.Lock()
    ),
}

called: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_called() -> None:
    called.clear()


def answer(a: int, b: int = 0) -> int:
    """Adds."""
    called.append(a)
    return a + b


@pytest.mark.parametrize("info", [False, True], ids=["", "info"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_cached(library: Any, store: str, options: str, info: bool) -> None:
    """A decorated function runs once per key, with every cache, lock and condition."""
    cache = STORES[store]()
    function = library.cached(cache, info=info, **OPTIONS[options]())(answer)
    assert (function(1), function(1), function(2, b=3), function(2, b=3)) == (1, 1, 5, 5)
    assert called == [1, 2]
    hashkey = library.keys.hashkey
    assert set(cache) == {hashkey(1), hashkey(2, b=3)}
    assert hasattr(function, "cache_info") == info
    if info and not (library is theirs or store == "hybridcore.Cache"):
        assert function.cache_info() == (2, 2, 2, 2)
    function(3)
    assert len(cache) == 2
    function.cache_clear()
    assert len(cache) == 0
    assert function.cache is cache
    assert function.__wrapped__ is answer
    assert inspect.signature(function) == inspect.signature(answer)
    assert repr(function) == f"<cached {answer!r}>"


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("library", LIBRARIES)
def test_cachedmethod(library: Any, store: str, options: str) -> None:
    """A decorated method keeps its results in the cache of its instance."""
    made = OPTIONS[options]()
    functions = {name: lambda self, name=name: made[name] for name in made}

    class Thing:
        def __init__(self) -> None:
            self.cache = STORES[store]()

        @library.cachedmethod(lambda self: self.cache, info=True, **functions)
        def answer(self, a: int) -> int:
            called.append(a)
            return a

    one, other = Thing(), Thing()
    assert (one.answer(1), one.answer(1), other.answer(1), Thing.answer(one, 1)) == (1, 1, 1, 1)
    assert called == [1, 1]
    assert one.answer.cache_info()[:2] == (2, 1)
    assert one.answer.cache is one.cache
    one.answer.cache_clear()
    assert (len(one.cache), len(other.cache)) == (0, 1)


@pytest.mark.parametrize("store", STORES)
def test_what_does_not_fit_is_returned(store: str) -> None:
    """A result that the cache refuses is returned all the same."""
    for cache in (hybridcore.Cache(0), ours.LRUCache(0), ours.LRUCache(1, getsizeof=lambda v: 5)):
        for options in OPTIONS.values():
            assert ours.cached(cache, **options())(answer)(1) == 1
            assert len(cache) == 0


def test_equal_calls_wait() -> None:
    """With a condition, threads that make the same call share one run."""
    started, release = threading.Event(), threading.Event()
    runs = []

    @ours.cached(ours.LRUCache(5), condition=threading.Condition(), info=True)
    def slow(a: int) -> int:
        runs.append(a)
        started.set()
        release.wait(10)
        return a

    threads = [threading.Thread(target=slow, args=(1,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert started.wait(10)
    release.set()
    for thread in threads:
        thread.join()
    assert runs == [1]
    assert slow.cache_info() == (7, 1, 5, 1)


def test_an_error_is_not_kept() -> None:
    """A call that raises lets the next one try."""
    attempts = []

    @ours.cached(ours.LRUCache(5), condition=threading.Condition())
    def failing() -> None:
        attempts.append(1)
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            failing()
    assert attempts == [1, 1]


@ours.cached(ours.LRUCache(2))
def by_name(a: int) -> int:
    return a


class Holder:
    def __init__(self) -> None:
        self.cache: dict[Any, Any] = {}

    @ours.cachedmethod(lambda self: self.cache)
    def double(self, a: int) -> int:
        """Twice."""
        return 2 * a

    @ours.cached(ours.LRUCache(2))
    def shared(self, a: int) -> int:
        return a


def test_pickles_by_name() -> None:
    """A function pickles and copies as what it is; an instance takes its results along."""
    assert pickle.loads(pickle.dumps(by_name)) is by_name
    assert copy.deepcopy(by_name) is by_name
    holder = Holder()
    assert holder.double(2) == 4
    twin = pickle.loads(pickle.dumps(holder))
    assert twin.double.cache == {(2,): 4} == holder.cache
    assert twin.double.cache is twin.cache is not holder.cache


def test_methods_that_cannot_be() -> None:
    """What has no name, no __dict__ or another decorator around it is refused, saying why."""
    with pytest.raises(TypeError, match="cache must not be None"):
        ours.cached(None)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"lambda self: self\.cache"):
        ours.cachedmethod({})  # type: ignore[call-overload]

    class Slots:
        __slots__ = ()

        @ours.cachedmethod(lambda self: {})
        def answer(self) -> int:
            return 1

        @classmethod
        @ours.cachedmethod(lambda cls: {})
        def shared(cls) -> int:
            return 1

    with pytest.raises(TypeError, match="No '__dict__' attribute on 'Slots' instance"):
        Slots().answer()
    with pytest.raises(TypeError, match="outermost decorator"):
        Slots.shared()
    with pytest.raises(TypeError, match="without an instance"):
        Holder.double()
    assert Holder.double(self=Holder(), a=1) == 2
    assert Holder().shared(3) == 3


@pytest.mark.parametrize("name", func.__all__)
def test_func(name: str) -> None:
    """The decorators of ``func`` take what functools.lru_cache takes."""
    decorator: Any = getattr(func, name)
    for maxsize in (2, None, 0):
        called.clear()
        function = decorator(maxsize, typed=True)(answer)
        assert (function(1), function(1), function(1.0)) == (1, 1, 1.0)
        assert function.cache_parameters() == {"maxsize": maxsize, "typed": True}
        assert function.cache_info().maxsize == maxsize
        assert len(called) == (3 if maxsize == 0 else 2)
    assert decorator(answer).cache_parameters() == {"maxsize": 128, "typed": False}


@LIBRARY
@pytest.mark.parametrize("option", OPTIONS)
def test_equal_arguments_are_one_call(library, option) -> None:
    """A call is known by equal arguments of another type, too."""
    function = library.cached(library.LRUCache(9), info=True, **OPTIONS[option]())(answer)
    assert [function(1), function(1.0), function(True), function(2**70), function(2**70)] == [
        1, 1, 1, 2**70, 2**70,
    ]  # fmt: skip
    assert function.cache_info()[:2] == (3, 2)
    with pytest.raises(TypeError):
        function([])
    assert [function(a=5, b=6), function(b=6, a=5), function(5, b=6), function(a=5.0, b=6)] == (
        [11] * 4
    )
    assert function.cache_info().hits == 5
    assert called == [1, 2**70, 5, 5]


@LIBRARY
@pytest.mark.parametrize("option", OPTIONS)
def test_a_hit_asks_a_subclass(library, option) -> None:
    """A hit goes through ``__getitem__`` where a subclass has one, and is a use of the entry."""
    asked = []

    class Asking(library.LRUCache):
        def __getitem__(self, key):
            asked.append(key)
            return super().__getitem__(key)

    function = library.cached(Asking(2), **OPTIONS[option]())(answer)
    plain = library.cached(library.LRUCache(2), **OPTIONS[option]())(answer)
    for call in (1, 2, 1, 3, 1):
        assert function(call) == plain(call) == call
    assert len(asked) >= 5
    assert called == [1, 1, 2, 2, 3, 3]
