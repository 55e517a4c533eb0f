"""Compares decorated functions by the ratios of interleaved rounds: hits, misses, coroutines.

The function returns its first argument. Every round calls each decorated function with the same
arguments in an order drawn anew; the time of an empty loop is subtracted. Ratios are to
functools.lru_cache, and for coroutines to a plain one that is awaited.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from textwrap import indent
from typing import TYPE_CHECKING, Any

from bench.report import OURS, cell, installed, print_row, quotients, spread, version

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

MAXSIZE = 2048
ENTRIES = 1000


@dataclass(frozen=True)
class Peer:
    """One decorator: ``decorate(function)``."""

    name: str
    distribution: str | None  # None: part of Python
    decorate: Callable[[Any], Any]

    def missing(self) -> str | None:
        """Why it cannot be measured here; None if it can."""
        if self.distribution is None or version(self.distribution):
            return None
        return f"there is no {self.distribution}"


@dataclass(frozen=True)
class Call:
    """How the function is called; ``k`` comes from ``key(i)``, equal to the one stored."""

    name: str
    statement: str
    key: Callable[[int], Any]
    known: bool = True


def _cachebox(function: Any) -> Any:
    cachebox = importlib.import_module("cachebox")
    return cachebox.cached(cachebox.LRUCache(MAXSIZE))(function)


def _cachetools(function: Any) -> Any:
    cachetools = importlib.import_module("cachetools")
    return cachetools.cached(cachetools.LRUCache(MAXSIZE))(function)


def _our_cachetools(function: Any) -> Any:
    cachetools = importlib.import_module("hybridcore.compat.cachetools")
    return cachetools.cached(cachetools.LRUCache(MAXSIZE))(function)


def _ours(name: str, **options: Any) -> Callable[[Any], Any]:
    def decorate(function: Any) -> Any:
        return getattr(importlib.import_module("hybridcore"), name)(MAXSIZE, **options)(function)

    return decorate


def _async_lru(function: Any) -> Any:
    return importlib.import_module("async_lru").alru_cache(MAXSIZE)(function)


FUNCTIONS = [
    Peer("lru_cache", None, functools.lru_cache(MAXSIZE)),
    Peer("our lru_cache", OURS, _ours("lru_cache")),
    Peer("our cached", OURS, _ours("cached")),
    Peer("our cached, ttl", OURS, _ours("cached", ttl=3600)),
    Peer("cachebox", "cachebox", _cachebox),
    Peer("cachetools", "cachetools", _cachetools),
    Peer("our cachetools", OURS, _our_cachetools),
]
COROUTINES = [
    Peer("plain", None, lambda function: function),
    Peer("our cached", OURS, _ours("cached")),
    Peer("async_lru", "async-lru", _async_lru),
]
CALLS = [
    Call("hit f(int)", "c(k)", int),
    Call("hit f(str)", "c(k)", lambda i: f"key{i:06}"),
    Call("hit f(int, int)", "c(k, 7)", int),
    Call("hit f(str, str)", 'c(k, "some")', lambda i: f"key{i:06}"),
    Call("hit f(a=int)", "c(a=k)", int),
    Call("hit f(int, b=int)", "c(k, b=7)", int),
    Call("hit f(float)", "c(k)", float),
    Call("miss f(int)", "c(k)", int, known=False),
]
AWAITED = [
    Call("hit await f(int)", "await c(k)", int),
    Call("hit await f(int, int)", "await c(k, 7)", int),
    Call("miss await f(int)", "await c(k)", int, known=False),
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m bench decorators``."""
    parser.add_argument("--rounds", type=int, default=25, help="at least 9 for a fact (default 25)")
    parser.add_argument("--seed", type=int, default=1, help="of the orders (default 1)")
    parser.add_argument("--steps", type=int, default=10_000, help="calls in a round")
    parser.add_argument("--only", default="", help="only calls whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="save every number here")


def main(options: argparse.Namespace) -> None:
    """Measure, print the tables, and save everything if asked to."""
    rng = Random(options.seed)
    results = {}
    for title, calls, peers in (
        ("Functions, ratios to functools.lru_cache", CALLS, FUNCTIONS),
        ("Coroutines, ratios to a plain one", AWAITED, COROUTINES),
    ):
        peers = list(filter(installed, peers))
        wanted = [call for call in calls if options.only in call.name]
        if not wanted:
            continue
        print(f"\n{title} (seed {options.seed}, median of {options.rounds} rounds)\n")
        print_row("", [f"{peers[0].name}, ns", *(peer.name for peer in peers[1:])])
        for call in wanted:
            measured = interleave(call, peers, options.rounds, options.steps, rng)
            base = measured[peers[0].name]
            ratios = {peer.name: spread(quotients(measured[peer.name], base)) for peer in peers}
            results[call.name] = {"ns": median(base), "ratios": ratios}
            print_row(
                call.name, [f"{median(base):.0f}", *(cell(ratios[p.name]) for p in peers[1:])]
            )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def interleave(
    call: Call, peers: list[Peer], rounds: int, steps: int, rng: Random
) -> dict[str, list[float]]:
    """Nanoseconds per call of each peer in each round but the first."""
    waits = call.statement.startswith("await")
    functions = {peer.name: peer.decorate(_answer_later if waits else _answer) for peer in peers}
    loop, empty = compiled(call.statement, waits), compiled("pass", waits)
    steps = steps if call.known else steps // 10
    nanoseconds: dict[str, list[float]] = {name: [] for name in functions}
    for i in range(rounds + 1):
        first = 0 if call.known else (i + 1) * steps
        numbers = [first + j % (ENTRIES if call.known else steps) for j in range(steps)]
        rng.shuffle(numbers)
        work = [call.key(number) for number in numbers]  # equal to the stored keys, others
        if call.known and i == 0:
            for function in functions.values():
                clocked(loop, function, work)
        sum(map(hash, work))
        floor = clocked(empty, None, work)
        for name in rng.sample(list(functions), len(functions)):
            spent = clocked(loop, functions[name], work) - floor
            nanoseconds[name].append(max(spent, 1) / steps)
    return {name: measured[1:] for name, measured in nanoseconds.items()}


def compiled(statement: str, waits: bool) -> Any:
    """The loop that runs the statement for every key, as a function or a coroutine function."""
    source = f"def loop(c, work):\n    for k in work:\n{indent(statement, ' ' * 8)}\n"
    namespace: dict[str, Any] = {}
    exec(f"async {source}" if waits else source, namespace)
    return namespace["loop"]


def clocked(loop: Any, function: Any, work: list[Any]) -> int:
    """Nanoseconds of processor time that the loop took."""
    runner = _event_loop() if asyncio.iscoroutinefunction(loop) else None
    gc.disable()
    try:
        start = time.process_time_ns()
        if runner is None:
            loop(function, work)
        else:
            runner.run_until_complete(loop(function, work))
        return time.process_time_ns() - start
    finally:
        gc.enable()


@functools.cache
def _event_loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _answer(a: Any, b: Any = 0) -> Any:
    return a


async def _answer_later(a: Any, b: Any = 0) -> Any:
    return a
