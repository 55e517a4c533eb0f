"""What type checkers see of decorated functions: mypy and pyright agree; never run."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from typing_extensions import assert_type

from hybridcore import (
    AsyncCached,
    Cached,
    CacheInfo,
    EntryOptions,
    HybridCache,
    cached,
    disable,
    disabled,
    keys,
    lru_cache,
)
from hybridcore.compat import functools
from hybridcore.namespaces import Namespace
from hybridcore.patterns import PatternTable


@lru_cache
def bare(x: int, *, scale: float = 1.0) -> str:
    return str(x * scale)


@lru_cache(maxsize=None, typed=True)
def sized(x: int) -> list[int]:
    return [x]


@functools.cache
def kept(x: int) -> bytes:
    return bytes(x)


@cached
def shared(x: int, y: str = "") -> dict[str, int]:
    return {y: x}


@cached(maxsize="64MiB", ttl="5m", key=keys.hashkey, error_ttl=1)
def configured(x: int) -> float:
    return x / 2


@cached
async def awaited(x: int) -> str:
    return str(x)


@cached(ttl=lambda result: 5)
async def configured_awaited(x: int) -> str:
    return str(x)


class Owner:
    @cached
    def method(self, x: int) -> str:
        return str(x)

    @cached(maxsize=10)
    async def later(self, x: int) -> bytes:
        return bytes(x)

    @staticmethod
    @cached
    def static(x: int) -> str:
        return str(x)

    @property
    @cached(per_instance=True)
    def attribute(self) -> float:
        return 0.5


assert_type(bare(1, scale=2.0), str)
assert_type(bare.get(1), str | None)
assert_type(bare.get(1, default=0), str | int)
assert_type(bare.refresh(1), str)
assert_type(bare.invalidate(1, scale=3), bool)
assert_type(bare.cache_info(), CacheInfo)
assert_type(bare.__wrapped__(1), str)
bare.set("one", 1)
bare.set(1, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bare("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bare(1, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
bare.invalidate()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
lru_cache("64MiB")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]

assert_type(sized(1), list[int])
assert_type(kept(1), bytes)
assert_type(shared(1, y="a"), dict[str, int])
assert_type(configured(1), float)
assert_type(configured.get(1, default=None), float | None)
configured("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

assert_type(awaited.get(1), str | None)
assert_type(configured_awaited.get(1), str | None)
awaited.set("one", 1)
_ = awaited("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

assert_type(Owner().method(1), str)
assert_type(Owner.method(Owner(), 1), str)
assert_type(Owner().method.get(1), str | None)
assert_type(Owner().method.invalidate(1), bool)
assert_type(Owner.static(1), str)
assert_type(Owner().attribute, float)
Owner().method("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def use() -> None:
    assert_type(await awaited(1), str)
    assert_type(await configured_awaited(1), str)
    assert_type(await awaited.refresh(1), str)
    assert_type(await Owner().later(1), bytes)


def takes_any(function: Cached[[int], str], waits: AsyncCached[[int], str]) -> None:
    assert_type(function(1), str)
    _ = assert_type(waits(1), Coroutine[Any, Any, str])


takes_any(Owner().method, awaited)


def namespaces(store: HybridCache[str, int]) -> None:
    assert_type(store.namespace("a"), Namespace[Any, int])
    ours: Namespace[str, int] = store.namespace("a")
    assert_type(ours.get("k"), int | None)
    assert_type(ours.get("k", "none"), int | str)
    assert_type(ours.get_many(["k"]), dict[str, int])
    assert_type(ours["k"], int)
    ours.put("k", "one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def tables() -> None:
    assert_type(PatternTable[str]().find("k"), tuple[str, dict[str, Any]] | None)
    assert_type(EntryOptions(ttl="5m").ttl, float | None)


@disabled("warming")
def kept_signature(x: int) -> str:
    return str(x)


assert_type(kept_signature(1), str)
disable("warmin")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
HybridCache(features={"warmin": True})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
