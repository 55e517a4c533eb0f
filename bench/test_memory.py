"""Caches in memory beside each other, one table per operation."""

from __future__ import annotations

import pytest

from bench.operations import memory_operations
from bench.peers import MEMORY


@pytest.mark.parametrize("peer", MEMORY, ids=lambda peer: peer.name)
@pytest.mark.parametrize(
    "operation",
    memory_operations(steps=20_000),
    ids=lambda operation: operation.name,
)
def test_memory(run, operation, peer) -> None:
    """Not a test of right or wrong: it measures."""
    run(operation, peer)
