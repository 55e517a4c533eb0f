"""Caches on disk beside each other, one table per operation."""

from __future__ import annotations

import pytest

from bench.operations import disk_operations
from bench.peers import DISK


@pytest.mark.parametrize("peer", DISK, ids=lambda peer: peer.name)
@pytest.mark.parametrize(
    "operation",
    disk_operations(steps=500, megabytes=20),
    ids=lambda operation: operation.name,
)
def test_disk(run, operation, peer) -> None:
    """Not a test of right or wrong: it measures."""
    run(operation, peer)
