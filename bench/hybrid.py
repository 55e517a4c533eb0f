"""Compares a hybrid cache with what it is made of, and with caches that load for their users.

Both sides of a line do the same work in interleaved rounds on the processor clock of the process;
an empty loop over the same work is subtracted. Ratios, and the nanoseconds that one side takes
longer than the other, are taken within a round.

A replay is the same trace over the same origin on both sides, each in its own style: who is made
for asyncio awaits, and is also set against our blocking face. Of the others, cashews alone is
bounded as we are.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from textwrap import indent
from typing import TYPE_CHECKING, Any

from bench.operations import KEYS, memory_operations
from bench.report import cell, print_row, quotients, save, spread, version

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

ENTRIES = 1_000
BOUND = 10_000
"""Entries that a replay may keep, a tenth of the keys that it draws from."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison: ``make`` returns what its statement sees as ``c``.

    The statement is run for each ``k``, awaiting where it says so; ``v`` is a value, ``load`` a
    loader, sync or async as the statement. ``before`` is run before each round, without a clock.
    """

    statement: str
    make: Callable[[ExitStack], Any]
    before: Callable[[Any], object] = id
    distribution: str = "hybridcore"

    @property
    def is_async(self) -> bool:
        """Whether it has to be awaited."""
        return "await" in self.statement


@dataclass(frozen=True)
class Line:
    """What is compared with what, on which keys, and how far apart they may be."""

    name: str
    ours: Side
    other: Side
    work: Callable[[Random, int], list[Any]]
    at_most: float | None = None
    """Times as long as the other side."""
    at_least: float | None = None
    """Times the throughput of the other side."""
    at_most_added: float | None = None
    """Nanoseconds more than the other side."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench hybrid``."""
    parser.add_argument("--rounds", type=int, default=15, help="at least 9 for a fact (default 15)")
    parser.add_argument("--seed", type=int, default=1, help="of keys and orders (default 1)")
    parser.add_argument("--steps", type=int, default=10_000, help="operations in a round")
    parser.add_argument("--only", default="", help="only lines whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every number here")


def main(options: argparse.Namespace) -> None:
    """Measure, print the lines, and save everything if asked to."""
    rng = Random(options.seed)
    print(f"\nHybrid cache (seed {options.seed}, median of {options.rounds} rounds)\n")
    print_row("", ["ours, ns", "other, ns", "ratio", "added ns", "throughput", "target"])
    results, distributions = {}, set()
    for line in lines(options.steps):
        if options.only not in line.name:
            continue
        distributions.add(line.other.distribution)
        if version(line.other.distribution) is None:
            print(f"{line.name} is left out: there is no {line.other.distribution}")
            continue
        results[line.name] = print_line(line, *measure(line, options.rounds, rng))
    if options.json:
        save(options.json, options, distributions, {"results": results})


def print_line(line: Line, ours: list[float], other: list[float]) -> dict[str, Any]:
    """Print one comparison, and return its numbers."""
    found = {
        "ours ns": spread(ours),
        "other ns": spread(other),
        "ratio": spread(quotients(ours, other)),
        "added ns": spread([one - two for one, two in zip(ours, other, strict=True)]),
        "throughput": spread(quotients(other, ours)),
    }
    target = ""
    if line.at_most is not None:
        target = f"<= {line.at_most:g}"
    elif line.at_least is not None:
        target = f">= {line.at_least:g} thr."
    elif line.at_most_added is not None:
        target = f"<= {line.at_most_added:g} ns"
    print_row(line.name, [*map(cell, found.values()), target])
    return {**found, "target": target}


def measure(line: Line, rounds: int, rng: Random) -> tuple[list[float], list[float]]:
    """Nanoseconds per step of both sides, in each round but the first."""
    spent: dict[Side, list[float]] = {line.ours: [], line.other: []}
    with ExitStack() as stack:
        runner = asyncio.new_event_loop()
        stack.callback(runner.close)
        made = {side: side.make(stack) for side in spent}
        loops = {side: compiled(side) for side in spent}
        for turn in range(rounds + 1):
            work = line.work(rng, turn)
            for side in rng.sample(list(spent), 2):
                side.before(made[side])
                loop = loops[side]
                floor = clocked(_empty, work, None, None, None)
                if side.is_async:
                    took = clocked(runner.run_until_complete, loop(work, made[side], 1, aload))
                else:
                    took = clocked(loop, work, made[side], 1, load)
                spent[side].append(max(took - floor, 1) / len(work))
        runner.run_until_complete(_end_tasks())
    return spent[line.ours][1:], spent[line.other][1:]


async def _end_tasks() -> None:
    """End what a peer left running."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def compiled(side: Side) -> Callable[..., Any]:
    """Return ``loop(work, c, v, load)``, a coroutine function if the statement awaits."""
    kind = "async def" if side.is_async else "def"
    source = f"{kind} loop(work, c, v, load):\n    for k in work:\n"
    namespace: dict[str, Any] = {}
    exec(source + indent(side.statement, " " * 8), namespace)
    return namespace["loop"]


def _empty(work: Any, c: Any, v: Any, load: Any) -> None:
    for _ in work:
        pass


def clocked(function: Callable[..., Any], *args: Any) -> int:
    """Nanoseconds of processor time that the call took."""
    gc.collect()
    gc.disable()
    try:
        start = time.process_time_ns()
        function(*args)
        return time.process_time_ns() - start
    finally:
        gc.enable()


# -- what is compared --------------------------------------------------------------------------


def load(key: Any) -> int:
    """An origin that costs nothing."""
    return 1


async def aload(key: Any) -> int:
    """The same to be awaited."""
    return 1


async def nothing() -> None:
    """The least that can be awaited."""


def lines(steps: int) -> list[Line]:
    """Every comparison, ``steps`` operations a round."""
    held = {op.name: op for op in memory_operations(steps, ENTRIES)}
    hits = held["get str"].work
    replay = held["read-through str, zipf"].work
    names = [KEYS["str"](i) for i in range(ENTRIES)]

    def new(rng: Random, turn: int) -> list[Any]:
        first = ENTRIES + turn * steps
        return [KEYS["str"](i) for i in range(first, first + steps)]

    def on_disk(rng: Random, turn: int) -> list[Any]:
        return rng.sample(names, ENTRIES)

    def filled(stack: ExitStack) -> Any:
        store = _store(stack)
        for name in names:
            store.put(name, 1)
        return store

    def native(stack: ExitStack) -> Any:
        return filled(stack).memory

    def with_disk(stack: ExitStack) -> Any:
        store = _store(stack, disk=_disk(stack), bound=BOUND)
        for name in names:
            store.put(name, _VALUE)
        return store

    def apart(stack: ExitStack) -> Any:
        from hybridcore import Cache

        disk = _disk(stack)
        disk.put_many(dict.fromkeys(names, _VALUE))
        return disk, Cache(BOUND)

    def loading(**options: Any) -> Callable[[ExitStack], Any]:
        return lambda stack: _store(stack, **options)

    def awaited(make: Callable[[ExitStack], Any]) -> Callable[[ExitStack], Any]:
        return lambda stack: make(stack).aio

    the_loader = Side("load(k)", lambda stack: None)
    sync = Side("c.get(k)", loading(origin=load, bound=BOUND))
    tasks = Side("await c.get(k)", awaited(loading(origin=aload, bound=BOUND)))
    found = [
        Line(
            "hit in memory / Cache.get",
            Side("c.get(k)", filled),
            Side("c.get(k)", native),
            hits,
            at_most=1.15,
        ),
        Line(
            "hit in memory / awaiting nothing",
            Side("await c.get(k)", awaited(filled)),
            Side("await c()", lambda stack: nothing),
            hits,
            at_most=1.5,
        ),
        Line(
            "hit on disk / Lmdb.get, Cache.put",
            Side("c.get(k)", with_disk, lambda store: store.memory.clear()),
            Side(
                "c[1].put(k, c[0].get(k))",
                apart,
                lambda both: both[1].clear(),
            ),
            on_disk,
            at_most=1.3,
        ),
    ]
    found += [
        Line(
            f"miss{note} - loader",
            Side("c.get(k)", loading(origin=load, **options)),
            the_loader,
            new,
            at_most_added=5000,
        )
        for note, options in ((", no breaker", {"breaker": None}), ("", {}))
    ]
    found += [
        Line(
            "awaited miss - loader",
            Side("await c.get(k)", awaited(loading(origin=aload))),
            Side("await load(k)", lambda stack: None),
            new,
        )
    ]
    found += [
        Line(f"zipf / {side.distribution}", ours, side, replay, at_least=5)
        for ours, side in ((sync, DOGPILE), (tasks, CASHEWS), (tasks, AIOCACHE))
    ]
    found += [
        Line(f"zipf, ours blocking / {side.distribution}", sync, side, replay)
        for side in (CASHEWS, AIOCACHE)
    ]
    return found


_VALUE = b"x" * 100


def _store(stack: ExitStack, *, bound: int = ENTRIES, **options: Any) -> Any:
    from hybridcore import Cache, HybridCache

    return stack.enter_context(HybridCache(Cache(bound), **options))


def _disk(stack: ExitStack) -> Any:
    from hybridcore import Lmdb

    return stack.enter_context(closing(Lmdb(stack.enter_context(TemporaryDirectory()))))


def _cashews(stack: ExitStack) -> Any:
    cache = importlib.import_module("cashews").Cache()
    cache.setup(f"mem://?size={BOUND}&check_interval=3600")
    return cache


def _dogpile(stack: ExitStack) -> Any:
    region = importlib.import_module("dogpile.cache").make_region()
    return region.configure("dogpile.cache.memory")


def _aiocache(stack: ExitStack) -> Any:
    return importlib.import_module("aiocache").SimpleMemoryCache()


_READ_THROUGH = "if await c.get(k) is None:\n    await c.set(k, await load(k))"

CASHEWS = Side(_READ_THROUGH, _cashews, distribution="cashews")
AIOCACHE = Side(_READ_THROUGH, _aiocache, distribution="aiocache")
DOGPILE = Side(
    "c.get_or_create(k, load, creator_args=((k,), {}))", _dogpile, distribution="dogpile.cache"
)
