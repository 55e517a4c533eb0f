"""Compares what goes over Redis with what one would write by hand with redis-py.

A step is a batch of keys that are not in memory. The server is started for the run, on a free port
of loopback; the clock is the processor time of this process, see `bench.hybrid`, which leaves the
server's own out. Both sides have the codec of the disk tier; a value by hand is number and payload.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from bench import hybrid
from bench.hybrid import Line, Side
from bench.report import print_row, save

if TYPE_CHECKING:
    import argparse
    from contextlib import ExitStack

KEYS = 1000
VALUE = {"id": 12345, "name": "a name of some length", "tags": ["a", "b", "c"], "price": 12.5}

add_arguments = hybrid.add_arguments


def main(options: argparse.Namespace) -> None:
    """Measure, print the lines, and save everything if asked to."""
    from tests.redis_server import RedisServer

    rng = Random(options.seed)
    steps = max(1, options.steps // KEYS)
    print(f"\n{KEYS} keys over Redis (seed {options.seed}, median of {options.rounds} rounds)\n")
    print_row("", ["ours, ns", "other, ns", "ratio", "added ns", "throughput", "target"])
    results = {}
    with TemporaryDirectory() as directory:
        server = RedisServer(Path(directory) / "redis")
        try:
            for line in lines(server.url, steps):
                if options.only in line.name:
                    measured = hybrid.measure(line, options.rounds, rng)
                    results[line.name] = hybrid.print_line(line, *measured)
            print(f"\nround trips of a get_many: {round_trips(server.port)}")
        finally:
            server.kill()
    if options.json:
        save(options.json, options, {"redis"}, {"results": results})


def round_trips(port: int) -> int:
    """Round trips that a cache makes for one batch, counted on the wire."""
    from hybridcore import HybridCache, RedisOrigin
    from tests.redis_server import Proxy

    proxy = Proxy(port)
    with closing(proxy), HybridCache(origin=RedisOrigin(proxy.url)) as store:
        store.get("connect")
        before = proxy.round_trips
        store.get_many(_names(1))
        return proxy.round_trips - before


def lines(url: str, steps: int) -> list[Line]:
    """Every comparison, ``steps`` batches a round."""
    names = _names(steps)

    def batches(rng: Random, turn: int) -> list[Any]:
        drawn = rng.sample(names, len(names))
        return [drawn[at : at + KEYS] for at in range(0, len(drawn), KEYS)]

    def origin(stack: ExitStack) -> Any:
        from hybridcore import RedisOrigin

        made = stack.enter_context(closing(RedisOrigin(url)))
        made.store_many(dict.fromkeys(names, VALUE))
        return made

    def store(stack: ExitStack, bound: int | str = 100_000) -> Any:
        from hybridcore import HybridCache, Memory

        return stack.enter_context(HybridCache(Memory(bound), origin=origin(stack)))

    def by_hand(stack: ExitStack) -> ByHand:
        made = stack.enter_context(closing(ByHand(url)))
        made.put_many(dict.fromkeys(names, VALUE))
        return made

    def forget(store: Any) -> None:
        store.memory.clear()

    hand = Side("c.get_many(k)", by_hand)
    return [
        Line("load_many / pipeline", Side("c.load_many(k)", origin), hand, batches, at_least=0.8),
        Line(
            "get_many of a cache / pipeline",
            Side("c.get_many(k)", store, forget),
            hand,
            batches,
            at_least=0.8,
        ),
        Line(
            "the same, memory bounded in bytes",
            Side("c.get_many(k)", lambda stack: store(stack, "64MiB"), forget),
            hand,
            batches,
        ),
        Line(
            "store_many / pipeline",
            Side("c.store_many(dict.fromkeys(k, v))", origin),
            Side("c.put_many(dict.fromkeys(k, v))", by_hand),
            batches,
        ),
    ]


class ByHand:
    """What one writes with redis-py: a pipeline of single commands, the values encoded."""

    def __init__(self, url: str) -> None:
        import redis

        from hybridcore import Codecs

        self._client = redis.Redis.from_url(url, protocol=3)
        self._codecs = Codecs()

    def get_many(self, keys: list[str]) -> dict[str, Any]:
        """The values of the keys that are there."""
        pipe = self._client.pipeline(transaction=False)
        for key in keys:
            pipe.get(f"by-hand:{key}")
        found = {}
        for key, value in zip(keys, pipe.execute(), strict=True):
            if value is not None:
                found[key] = self._codecs.decode(value[0], memoryview(value)[1:])
        return found

    def put_many(self, items: dict[str, Any]) -> None:
        """Store the values."""
        pipe = self._client.pipeline(transaction=False)
        for key, value in items.items():
            code, payload = self._codecs.encode(value)
            pipe.set(f"by-hand:{key}", b"".join((bytes([code]), *payload)))
        pipe.execute()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _names(batches: int) -> list[str]:
    return [f"user:{i + 10_000_000}" for i in range(KEYS * batches)]
