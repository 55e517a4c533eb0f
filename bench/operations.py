"""Every operation that is measured: what a cache holds before, and what is then asked of it."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from textwrap import indent
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from bench.peers import Peer

KEYS: dict[str, Callable[[int], Any]] = {
    "int": lambda i: i + 10_000_000,
    "str": lambda i: f"user:{i + 10_000_000}",
    "tuple": lambda i: ("user", i + 10_000_000),
    "bytes": lambda i: b"user:%d" % (i + 10_000_000),
}
"""Makes the key of a number: a new object at each call, equal to the one of the call before."""

UNIVERSE = 100_000  # keys that the read-through draws from, into a cache of a tenth
ZIPF_EXPONENT = 1.0
ONCE = 0.2  # share of the requests for keys that are never asked for again, where there are such


@dataclass(frozen=True)
class Operation:
    """One thing that is asked of every peer.

    ``stored`` makes the keys that the cache holds before; operations share a cache if they share
    it. ``work`` makes what the loop goes through in its first, second... turn, bound to ``over``;
    ``statement`` names what is done with it, see `Peer.statement`. ``entries`` is how many entries
    one step handles.
    """

    name: str
    statement: str
    stored: Callable[[], list[Any]]
    work: Callable[[Random, int], list[Any]]
    value: Any
    over: str = "k"
    entries: int = 1
    on_disk: bool = False
    maxsize: int | None = None

    def loop(self, peer: Peer) -> Callable[[Any, list[Any], Any], None] | None:
        """Return ``loop(cache, work, value)``, or None if the peer has no such operation."""
        statement = peer.statement(self.statement)
        return None if statement is None else compile_loop(statement, self.over)

    def cache(self, peer: Peer, closing: ExitStack) -> Any:
        """Make the peer's cache and put into it what is stored."""
        stored = self.stored()
        if self.on_disk:
            directory = Path(closing.enter_context(TemporaryDirectory()))
            cache = closing.enter_context(peer.make(directory))
            batches = [dict.fromkeys(batch, self.value) for batch in batched(stored, 1000)]
            compile_loop(peer.statements["set_many"], "items")(cache, batches, self.value)
        else:
            cache = peer.make(len(stored) if self.maxsize is None else self.maxsize)
            if hasattr(cache, "close"):  # theine has a thread
                closing.callback(cache.close)
            fill = peer.statement("set") or peer.statements["get"]
            compile_loop(fill, "k")(cache, stored, self.value)
        return cache


@functools.cache
def compile_loop(statement: str, over: str, also: str = "") -> Callable[..., None]:
    """Compile ``loop(c, work, v)``, which runs the statement once for everything in ``work``.

    ``also`` names what else the statement sees, and the loop is given.
    """
    head = f"def loop(c, work, v, {also}):\n    for {over} in work:\n"
    source = head + indent(statement, " " * 8)
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    return namespace["loop"]


def batched(things: list[Any], size: int) -> list[list[Any]]:
    """Cut the list into lists of this size."""
    return [things[i : i + size] for i in range(0, len(things), size)]


def memory_operations(steps: int, entries: int = 1000) -> list[Operation]:
    """What is asked of a cache in memory, ``steps`` times a loop, with ``entries`` in it."""

    def stored(kind: str, held: int = entries) -> Callable[[], list[Any]]:
        return functools.cache(lambda: [KEYS[kind](i) for i in range(held)])

    def again(keys: Callable[[], list[Any]]) -> Callable[[Random, int], list[Any]]:
        """Every key as often as any other, in a new order."""

        def work(rng: Random, turn: int) -> list[Any]:
            found = keys()
            passes = (rng.sample(found, len(found)) for _ in range(steps // len(found)))
            return list(itertools.chain.from_iterable(passes))

        return work

    def numbered(kind: str, first: int) -> Callable[[Random, int], list[Any]]:
        """Equal to what is stored from ``first`` on, but other objects."""
        return again(lambda: [_hashed(KEYS[kind](i)) for i in range(first, first + entries)])

    def arriving(kind: str, held: int) -> Callable[[Random, int], list[Any]]:
        """New keys, each with the oldest one that it displaces."""
        return lambda rng, turn: [
            (_hashed(KEYS[kind](i + held)), _hashed(KEYS[kind](i)))
            for i in range(turn * steps, (turn + 1) * steps)
        ]

    def zipf(kind: str, once: float = 0) -> Callable[[Random, int], list[Any]]:
        """Popular keys more often; a share of ``once`` is new each time."""

        def work(rng: Random, turn: int) -> list[Any]:
            drawn = rng.choices(range(UNIVERSE), cum_weights=_cumulated_weights(), k=steps)
            for i in range(steps):
                if rng.random() < once:
                    drawn[i] = UNIVERSE + turn * steps + i
            return [_hashed(KEYS[kind](i)) for i in drawn]

        return work

    def evicting(kind: str, held: int, note: str = "") -> Operation:
        name = f"set {kind}, evicting{note}"
        return Operation(name, "evict", stored(kind, held), arriving(kind, held), 1, "k, old")

    def read_through(name: str, work: Callable[[Random, int], list[Any]]) -> Operation:
        return Operation(name, "read", stored("int", 0), work, 1, maxsize=UNIVERSE // 10)

    found = []
    for kind in ("int", "str", "tuple"):
        held = stored(kind)
        found += [
            Operation(f"get {kind}", "get", held, numbered(kind, 0), 1),
            Operation(f"get {kind}, same object", "get", held, again(held), 1),
            Operation(f"[k] {kind}", "[k]", held, numbered(kind, 0), 1),
            Operation(f"get {kind}, miss", "get", held, numbered(kind, entries), 1),
            Operation(f"set {kind}, existing", "set", held, numbered(kind, 0), 1),
            evicting(kind, entries),
            read_through(f"read-through {kind}, zipf", zipf(kind)),
        ]
    return [
        *found,
        *(evicting(kind, 100 * entries, f", {entries // 10} k entries") for kind in ("int", "str")),
        read_through("read-through int, zipf + once", zipf("int", ONCE)),
    ]


def large_operation(steps: int, kind: str = "int", entries: int = 1_000_000) -> Operation:
    """Hits among so many entries that memory, not code, sets the pace."""
    return Operation(
        f"get {kind}, 1 M entries",
        "get",
        functools.cache(lambda: [KEYS[kind](i) for i in range(entries)]),
        lambda rng, turn: [_hashed(KEYS[kind](i)) for i in rng.sample(range(entries), steps)],
        1,
    )


def disk_operations(steps: int, megabytes: int) -> list[Operation]:
    """What is asked of a cache on disk that holds at most so much of each size of value."""
    return [
        operation
        for name, size in (("100 B", 100), ("1 KiB", 1024), ("64 KiB", 65536))
        for operation in _disk_operations(
            name, Random(size).randbytes(size), min(megabytes * 1_000_000 // size, 100_000), steps
        )
    ]


def view_operation(steps: int) -> Operation:
    """Arrays of 1 MiB, each looked at where it lies or, where there is no such thing, copied."""
    stored = functools.cache(lambda: [KEYS["bytes"](i) for i in range(20)])
    return Operation(
        "view 1 MiB float32",
        "view",
        stored,
        lambda rng, turn: rng.choices(stored(), k=steps),
        _array(),
        on_disk=True,
    )


def _array() -> Any:
    import numpy as np

    return np.arange(2**18, dtype=np.float32)


def _disk_operations(name: str, value: bytes, entries: int, steps: int) -> Iterator[Operation]:
    stored = functools.cache(lambda: [KEYS["bytes"](i) for i in range(entries)])

    def some(rng: Random, turn: int, first: int = 0) -> list[Any]:
        return [KEYS["bytes"](first + i) for i in rng.sample(range(entries), min(steps, entries))]

    def missing(rng: Random, turn: int) -> list[Any]:
        return some(rng, turn, first=entries)

    def lists(rng: Random, turn: int) -> list[Any]:
        return batched(some(rng, turn), 100)

    def dicts(rng: Random, turn: int) -> list[Any]:
        return [dict.fromkeys(keys, value) for keys in lists(rng, turn)]

    for operation, statement, work, over, handled in (
        ("get", "get", some, "k", 1),
        ("get, miss", "get", missing, "k", 1),
        ("get_many", "get_many", lists, "ks", 100),
        ("set", "set", some, "k", 1),
        ("set_many", "set_many", dicts, "items", 100),
    ):
        title = f"{operation} {name}"
        yield Operation(title, statement, stored, work, value, over, handled, on_disk=True)


@functools.cache
def _cumulated_weights() -> list[float]:
    weights = (rank**-ZIPF_EXPONENT for rank in range(1, UNIVERSE + 1))
    return list(itertools.accumulate(weights))


def _hashed(key: Any) -> Any:
    """A str keeps its hash: compute it here, where no clock runs."""
    hash(key)
    return key
