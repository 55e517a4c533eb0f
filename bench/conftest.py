"""Runs one operation of one peer under pytest-benchmark."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from random import Random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.operations import Operation
    from bench.peers import Peer

SEED = 1


@pytest.fixture
def run(benchmark) -> Callable[[Operation, Peer], None]:
    """``run(operation, peer)`` measures it; an operation or a peer that is missing is skipped."""

    def run(operation: Operation, peer: Peer) -> None:
        loop = operation.loop(peer)
        if loop is None:
            pytest.skip(f"{peer.name} has no {operation.statement}")
        if missing := peer.missing():
            pytest.skip(f"{peer.name} is left out: {missing}")
        rng = Random(SEED)
        rounds = itertools.count()
        steps = len(operation.work(rng, 0)) * operation.entries
        benchmark.group = f"{operation.name} ({steps} times)"
        with ExitStack() as closing:
            cache = operation.cache(peer, closing)

            def prepare() -> tuple[tuple[object, ...], dict[str, object]]:
                return (cache, operation.work(rng, next(rounds)), operation.value), {}

            benchmark.pedantic(loop, setup=prepare, rounds=9, warmup_rounds=1)

    return run
